//! Every text that the crates read: whatever is accepted is a value that is written and read as the same.

use netstack::Config;
use netstack::config::{CongestionName, FastOpenKeys};
use netstack::device::LinkConfig;
use netstack::ip::Cidr;
use netstack::wire::FastOpenCookie;
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// The first byte chooses the kind of text, the rest is the text.
pub fn run(data: &[u8]) {
    let Some((&kind, text)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    match kind % 7 {
        0 => {
            if let Some(cidr) = survives::<Cidr>(text) {
                assert!(cidr.contains(cidr.address()) && cidr.contains(cidr.network()));
                assert!(cidr.broadcast().is_none_or(|broadcast| cidr.contains(broadcast.into())));
            }
        }
        1 => link(text),
        2 => drop(survives::<FastOpenKeys>(text)),
        3 => drop(survives::<FastOpenCookie>(text)),
        4 => {
            if let Ok(name) = text.parse::<CongestionName>() {
                assert_eq!((name.to_string().as_str(), name), (text, text.parse().expect("as before")));
            }
        }
        #[cfg(target_os = "linux")]
        5 => drop(survives::<netstack_tun::Cidr>(text)),
        _ => settings(text),
    }
}

fn survives<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T>
where
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            assert!(!text.contains('+'), "a sign in `{text}`");
            let shown = value.to_string();
            assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&value), "`{text}` is shown as `{shown}`");
            Some(value)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn link(text: &str) {
    match text.parse::<LinkConfig>() {
        Ok(link) => {
            assert!(!text.contains('+'), "a sign in `{text}`");
            for share in [link.loss, link.reorder, link.duplicate, link.corrupt, link.mark] {
                assert!((0.0..=1.0).contains(&share), "a share of {share} from `{text}`");
            }
            assert!(link.burst.is_none_or(|burst| burst >= 1.0 && burst.is_finite()), "`{text}`");
            assert!(link.limit > 0 && link.rate != Some(0));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Lines of a key and a value.
fn settings(text: &str) {
    let mut config = Config::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        // A key may be given by its number.
        let keys = Config::keys();
        let key = key.parse::<usize>().map_or(key, |number| keys[number % keys.len()]);
        if config.set(key, value).is_err() {
            continue;
        }
        let named = key == "congestion";
        assert!(named || !value.contains('+'), "a sign in `{key}={value}`");
        let shown = config.get(key).expect("a key that was set");
        let mut again = config.clone();
        again.set(key, &shown).expect("what is shown can be set");
        assert_eq!(again, config, "`{key}={value}` is shown as `{shown}`");
    }
    // A name may be one of an algorithm that this stack does not have.
    if config.validate().is_ok() && CongestionName::built_in(&config.congestion.to_string()).is_some() {
        crate::world::use_settings(config);
    }
}
