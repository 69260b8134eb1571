//! One reading's whole life, from the radio to a bill, on the executables alone.
//!
//! In: a house of its own. Out: pass or fail. Never here: what goes wrong on the way (`faults`,
//! `bad_input`).

use crate::{
    frames,
    house::{House, PATIENCE, ask, at_work_on, tidemark, until},
    story::{self, AROUND_BOUNDS, Story},
};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_read_becomes_a_bill_and_the_house_is_left_clean() {
    let mut house = House::start("journey");
    let story = Story::new(1, AROUND_BOUNDS);
    story.seed(&house);
    let fleet = house.scratch.path().join("fleet.json");
    let again = house.errand(&["registry", "import", fleet.to_str().unwrap()]);
    assert!(again.contains("says nothing new"), "{again}");

    let expected = story.play(&house);
    let books = story::settled(&house, &expected);
    assert_eq!(books.refused, expected.rejected, "nothing was cut, so nothing came twice");

    for cycle in &expected.cycles {
        let first = story::bill(&house, &cycle.name);
        assert_eq!(first["newly_billed"], 200, "{first}");
        let bills = story::bills(&house, &cycle.name);
        let second = story::bill(&house, &cycle.name);
        assert_eq!((&second["newly_billed"], &second["billed"]), (&json!(0), &json!(200)));
        assert_eq!(story::bills(&house, &cycle.name), bills, "a second run changes nothing");
    }
    story::bills_are_right(&house, &expected);

    let swapped = &expected.swaps[0].account;
    let cycle = &expected.cycles[1].name;
    let working = house.errand(&["bill", "explain", "--account", swapped, "--cycle", cycle]);
    for word in [swapped, cycle, "m3", "yuan/m3", "Total", "rate version"] {
        assert!(working.contains(word), "no {word:?} in\n{working}");
    }
    the_console_shows_the_books(&house, books.received);
    a_dead_letter_becomes_a_read_once_its_meter_is_registered(&house);

    let data = house.data();
    assert!(at_work_on(&data).len() > 5, "the house is at work");
    let status = house.up.end(Signal::TERM).expect("it stops");
    assert!(status.success(), "{status}");
    let left = at_work_on(&data);
    assert!(left.is_empty(), "left behind: {left:#?}");
}

fn the_console_shows_the_books(house: &House, received: u64) {
    let console = house.up.fact("console");
    until("the console shows what was received", PATIENCE, || {
        let (status, page) = crate::house::http(&console, None).unwrap();
        assert_eq!(status, 200, "{page}");
        let digits = |text: &str| text.replace([',', '\u{202f}', '\u{2009}', ' '], "");
        digits(&page).contains(&received.to_string()).then_some(())
    });
}

fn a_dead_letter_becomes_a_read_once_its_meter_is_registered(house: &House) {
    let before = story::books(house);
    let address = 12_030_099_000_001;
    let frame = frames::cjt188(address, 1, frames::at("2025-03-31T16:00:00Z"), 4_711);
    let device = "imei:867512089999999";
    let said = frames::post(&house.up.fact("coap"), Some(device), &frame);
    assert_eq!(said, "", "an answer 2.04 says no more");
    let unknown = |books: &story::Books| books.refused.get("unknown_device").copied();
    let letters = until("the stranger's frame is a dead letter", PATIENCE, || {
        let now = story::books(house);
        (now.rejected > before.rejected).then_some(unknown(&now)?)
    });
    assert_eq!(Some(letters), unknown(&before).map(|count| count + 1));

    let registry = json!({
        "service_points": [{"code": "S-new", "commodity": "water", "address": "1 New Street"}],
        "meters": [{
            "number": "M-new",
            "model": "CJ-15",
            "devices": [format!("cjt188:{address:014}"), device],
        }],
        "installed_meters": [{
            "meter": "M-new",
            "service_point": "S-new",
            "from": "2025-02-28T16:00:00Z",
            "opening_count": 0,
        }],
    });
    let file = house.scratch.write("new-meter.json", registry.to_string());
    house.errand(&["registry", "import", file.to_str().unwrap()]);
    let said = house.errand(&["replay", "--reason", "unknown_device"]);
    assert!(said.starts_with(&format!("replayed {letters} dead letters: 1 gave")), "{said}");
    let said = house.errand(&["replay", "--reason", "unknown_device"]);
    let left = letters - 1;
    assert!(said.starts_with(&format!("replayed {left} dead letters: 0 gave")), "{said}");
    let now = story::books(house);
    assert_eq!(now.received, before.received + 1, "a replay is no second uplink");
}

#[test]
fn every_command_explains_itself() {
    let mut waiting = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(words) = waiting.pop() {
        let mut command = tidemark(&words);
        let help = ask(command.arg("--help")).ended(&[0]);
        assert!(help.contains("Usage: tidemark"), "{words:?}: {help}");
        seen += 1;
        let Some((_, commands)) = help.split_once("\nCommands:\n") else { continue };
        for line in commands.lines().take_while(|line| !line.is_empty()) {
            // A name stands two columns in; longer descriptions go on further in.
            let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
            let Some(name) = name.and_then(|rest| rest.split_whitespace().next()) else { continue };
            if name != "help" {
                waiting.push(words.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
    }
    assert!(seen >= 20, "only {seen} commands were found");
}
