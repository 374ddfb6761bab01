//! `--so_flags`: the addresses and the MTU, which packetdrill passes to a library in no other way,
//! and any setting of the stack.

use netstack::config::Config;
use std::net::IpAddr;

/// The contents of `--so_flags=local_ip=ADDRESS,mtu=N,KEY=VALUE…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The addresses of the stack.
    pub local: Vec<IpAddr>,
    /// The MTU of the only interface, in bytes.
    pub mtu: usize,
    /// Whether the stack may leave segmentation to the device (`offloads=off` forbids it).
    pub offloads: bool,
    /// Which unexpected packets make the script fail.
    pub leftovers: Leftovers,
    /// Valid settings, in their order.
    pub settings: Vec<(String, String)>,
}

/// Which packets that no line has taken when a script ends are a failure (`leftovers=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// `late`, the default: any, but for data that the script acknowledged without looking at it and
    /// new data after that, the rest of a burst of which a line took a part, acknowledgments on a
    /// connection that the script then reset, and what came of the last line or after it: new data,
    /// acknowledgments, and what the script left without one and comes again. Linux sends these too
    /// where scripts end.
    Late,
    /// `all`: any.
    All,
    /// `none`: none, as with packetdrill itself.
    None,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            local: Vec::new(),
            mtu: 1500,
            offloads: true,
            leftovers: Leftovers::Late,
            settings: Vec::new(),
        }
    }
}

impl Flags {
    /// Reads the text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut scratch = Config::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| format!("so_flags: `{pair}` is not KEY=VALUE"))?;
            match key {
                "local_ip" => {
                    let address = value.parse().map_err(|_| format!("so_flags: {value} is no address"))?;
                    flags.local.push(address);
                }
                "mtu" => {
                    flags.mtu = value.parse().map_err(|_| format!("so_flags: {value} is no MTU"))?;
                }
                "offloads" => {
                    flags.offloads = match value {
                        "on" => true,
                        "off" => false,
                        _ => return Err(format!("so_flags: offloads: on or off, not {value}")),
                    }
                }
                "leftovers" => {
                    flags.leftovers = match value {
                        "late" => Leftovers::Late,
                        "all" => Leftovers::All,
                        "none" => Leftovers::None,
                        _ => return Err(format!("so_flags: leftovers: late, all or none, not {value}")),
                    }
                }
                _ => {
                    scratch.set(key, value).map_err(|error| format!("so_flags: {error}"))?;
                    flags.settings.push((key.to_owned(), value.to_owned()));
                }
            }
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_the_mtu_and_settings() {
        let flags =
            Flags::parse("local_ip=192.168.0.1,mtu=1400,rto_min=50ms,sack=off,local_ip=fd00::1").unwrap();
        assert_eq!(flags.local, ["192.168.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(flags.mtu, 1400);
        let settings: Vec<_> = flags.settings.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(settings, [("rto_min", "50ms"), ("sack", "off")]);
        assert_eq!(Flags::parse("").unwrap(), Flags::default());
    }

    #[test]
    fn every_setting_is_a_key() {
        for key in Config::keys() {
            let pair = format!("{key}={}", Config::default().get(key).unwrap());
            assert_eq!(Flags::parse(&pair).unwrap().settings.len(), 1, "{pair}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, error) in [
            ("mtu", "so_flags: `mtu` is not KEY=VALUE"),
            ("mtu=big", "so_flags: big is no MTU"),
            ("local_ip=here", "so_flags: here is no address"),
            ("leftovers=no", "so_flags: leftovers: late, all or none, not no"),
            ("colour=red", "so_flags: there is no setting `colour`"),
        ] {
            assert_eq!(Flags::parse(text).unwrap_err(), error);
        }
    }
}
