//! From envelope to reads with M-Bus inside: who sent it, is it sealed, does it count.
//!
//! In: telegrams built by the encoder. Out: what the pipeline makes of them.
//! Never here: telegrams of others (see `mbus.rs`).

#[cfg(test)]
mod pipeline {
    use chrono::DateTime;
    use model::{
        DeviceKey, MeterEntry, MeterId, Register, RegisterValue, RegistrySnapshot, SecretKey, Unit,
    };
    use rust_decimal::Decimal;
    use uplink::codec::mbus::{Seal, Telegram, encode_wireless, put_read};
    use uplink::{Decoded, Envelope, Network, Radio, UplinkError, profile};

    const KEY: [u8; 16] = [3; 16];
    const METER: [u8; 8] = [0xA5, 0x11, 0x21, 0x43, 0x65, 0x87, 0x30, 0x07];

    fn entry(key: Option<[u8; 16]>) -> MeterEntry {
        MeterEntry {
            meter: MeterId::new(1),
            devices: vec![DeviceKey::Mbus(u64::from_be_bytes(METER))],
            profile: "oms".to_owned(),
            key: key.map(SecretKey::new),
            lorawan: None,
            register_digits: 8,
            register_exponent: -3,
            register_unit: Unit::CubicMetre,
            hourly_max: Decimal::from(5),
            pulse_weight: None,
            installed: Vec::new(),
        }
    }

    /// Volume without a clock: such a read is dated by its reception.
    fn telegram(seal: Seal<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        let value = RegisterValue::new(200, -3, Unit::CubicMetre);
        put_read(&mut body, 0x07, Register::VOLUME, value).unwrap();
        let telegram = Telegram {
            link_address: METER,
            meter_address: None,
            access: 9,
            status: 0,
            body: &body,
            seal,
        };
        encode_wireless(&telegram).unwrap()
    }

    fn take(
        seal: Seal<'_>,
        key: Option<[u8; 16]>,
        last: Option<u32>,
    ) -> Result<Decoded, UplinkError> {
        let envelope = Envelope {
            device: None,
            network: Network::Platform,
            payload: telegram(seal),
            f_port: None,
            counter: None,
            received_at_ms: 0,
            network_time_ms: None,
            dedup: None,
            radio: Radio::default(),
            source: "test".to_owned(),
        };
        let snapshot = RegistrySnapshot::new(vec![entry(key)]).unwrap();
        let entry = uplink::identify(&envelope, &snapshot)?;
        let opened = uplink::open(&envelope, entry, last)?;
        let profile = profile::by_name(&entry.profile).unwrap();
        uplink::decode(&opened, profile, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_sealed_telegram_becomes_a_read_of_its_meter() {
        for (seal, key) in
            [(Seal::None, None), (Seal::Mode5(&KEY), Some(KEY)), (Seal::Mode7(&KEY, 5), Some(KEY))]
        {
            let decoded = take(seal, key, None).unwrap();
            assert_eq!(decoded.profile, "oms");
            assert_eq!(decoded.reads.first().unwrap().value.to_string(), "0.200 m3");
        }
    }

    #[test]
    fn a_meter_with_a_key_must_seal_and_its_key_must_fit() {
        let code = |seal, key| take(seal, key, None).unwrap_err().code();
        assert_eq!(code(Seal::None, Some(KEY)), "seal_missing");
        assert_eq!(code(Seal::Mode5(&KEY), None), "encrypted");
        assert_eq!(code(Seal::Mode5(&KEY), Some([4; 16])), "key_mismatch");
    }

    #[test]
    fn a_replayed_signed_telegram_without_a_clock_is_refused() {
        let code = |last| take(Seal::Mode7(&KEY, 5), Some(KEY), last).map_err(|e| e.code());
        assert!(code(Some(4)).is_ok());
        assert_eq!(code(Some(5)).unwrap_err(), "replayed");
        assert_eq!(code(Some(6)).unwrap_err(), "replayed");
    }
}
