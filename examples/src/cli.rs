//! Command lines whose errors are one line.

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use netstack::config::Config;
use std::fmt::Display;
use std::process::ExitCode;

/// The exit status after a usage error.
const USAGE: u8 = 2;

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// Parses the command line, and ends the process if that fails: with one line on standard error and
/// status 2. Help goes to standard output.
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            error.exit();
        }
        eprintln!("{}", one_line(&error.to_string()));
        std::process::exit(USAGE.into());
    })
}

/// Prints what went wrong, in one line, and returns the exit status.
pub fn fail(error: impl Display) -> ExitCode {
    eprintln!("error: {}", error.to_string().replace('\n', " "));
    ExitCode::FAILURE
}

/// A setting of the stack, as `key=value`. For clap's `value_parser`.
///
/// # Errors
/// If there is no such setting, or it does not take the value.
pub fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("lacks '=' and a value")?;
    Config::default().set(key.trim(), value).map_err(|error| error.to_string())?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// The defaults with `settings` applied, checked.
///
/// # Errors
/// If the settings do not fit together.
pub fn config(settings: &[(String, String)]) -> std::io::Result<Config> {
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let mut config = Config::default();
    for (key, value) in settings {
        config.set(key, value).map_err(invalid)?;
    }
    config.validate().map_err(invalid)?;
    Ok(config)
}

/// The first paragraph of clap's message: what is wrong. What follows is usage and hints.
fn one_line(message: &str) -> String {
    let lines: Vec<_> = message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug)]
    struct Args {
        #[arg(long)]
        name: String,
        #[arg(long, value_parser = setting)]
        config: Vec<(String, String)>,
    }

    fn message(args: &[&str]) -> String {
        one_line(&Args::try_parse_from(args).unwrap_err().to_string())
    }

    #[test]
    fn errors_are_one_line_that_names_the_argument() {
        assert_eq!(message(&["x", "--nonsense"]), "error: unexpected argument '--nonsense' found");
        assert_eq!(
            message(&["x"]),
            "error: the following required arguments were not provided: --name <NAME>"
        );
        let setting = message(&["x", "--name", "a", "--config", "rto_min=fast"]);
        assert!(setting.contains("rto_min: expected a duration") && !setting.contains('\n'), "{setting}");
    }

    #[test]
    fn settings_must_fit_together() {
        let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let config_ = config(&[set("time_wait", "1s"), set("sack", "off")]).unwrap();
        assert!(config_.time_wait.as_secs() == 1 && !config_.sack);
        assert!(config(&[set("rto_min", "10s")]).is_err());
    }
}
