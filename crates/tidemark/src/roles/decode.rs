//! `tidemark decode`: frames to JSON, without any database.
//!
//! In: a frame in hexadecimal, or a stream of requests. Out: one JSON result per frame.
//! Never here: formats of frames (see `uplink`).

use crate::cli::DecodeArgs;
use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufWriter, Write, stdin, stdout},
    process::ExitCode,
};

/// The longest request line that is looked at; a longer one gets an error and is skipped.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Decodes one frame, or every line of standard input.
pub(crate) fn run(args: &DecodeArgs) -> Result<ExitCode> {
    if args.ndjson {
        each_line(uplink::ndjson::answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut request = serde_json::Map::new();
    let given = [
        ("hex", &args.hex),
        ("profile", &args.profile),
        ("key", &args.key),
        ("nwk_s_key", &args.nwk_s_key),
        ("app_s_key", &args.app_s_key),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            request.insert(name.to_owned(), value.as_str().into());
        }
    }
    if let Some(port) = args.f_port {
        request.insert("f_port".to_owned(), port.into());
    }
    let answer = uplink::ndjson::answer(&serde_json::Value::Object(request).to_string());
    let answer: serde_json::Value = serde_json::from_str(&answer).context("our own answer")?;
    let decoded = answer.get("ok");
    println!("{:#}", decoded.unwrap_or(&answer));
    Ok(if decoded.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers every line of standard input with one line on standard output, never stopping at a bad
/// one. A reader that goes away ends it.
pub(super) fn each_line(mut answer: impl FnMut(&str) -> String) -> Result<()> {
    let mut input = stdin().lock();
    let mut output = BufWriter::new(stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut input, LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .context("read standard input")?;
        if read == 0 {
            break;
        }
        let whole = line.last() == Some(&b'\n');
        if !whole && u64::try_from(read).is_ok_and(|read| read == LINE_BYTES_MAX) {
            skip_rest_of_line(&mut input)?;
        }
        // Bytes that are no text become an error of their line, as does a line cut short.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        if writeln!(output, "{}", answer(text)).is_err() {
            return Ok(());
        }
    }
    drop(output.flush());
    Ok(())
}

fn skip_rest_of_line(input: &mut impl BufRead) -> Result<()> {
    loop {
        let buffer = input.fill_buf().context("read standard input")?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}
