//! The simple services of the early Internet: echo, discard, character generator and daytime.

use crate::checksum::Adler32;
use std::convert::Infallible;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of one read or write.
const BLOCK: usize = 64 << 10;

/// The traffic of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read.
    pub received: u64,
    /// Bytes written.
    pub sent: u64,
}

/// Sends back what it receives (RFC 862) until the client is done, and closes.
///
/// # Errors
/// Those of the stream.
pub async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Traffic> {
    let mut block = vec![0; BLOCK];
    let mut traffic = Traffic::default();
    loop {
        let n = stream.read(&mut block).await?;
        if n == 0 {
            stream.shutdown().await?;
            return Ok(traffic);
        }
        traffic.received += n as u64;
        stream.write_all(&block[..n]).await?;
        traffic.sent += n as u64;
    }
}

/// Discards what it receives (RFC 863), after adding it to `checksum`, if there is one.
///
/// # Errors
/// Those of the stream.
pub async fn discard(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut checksum: Option<&mut Adler32>,
) -> io::Result<Traffic> {
    let mut block = vec![0; BLOCK];
    let mut traffic = Traffic::default();
    loop {
        let n = stream.read(&mut block).await?;
        if n == 0 {
            stream.shutdown().await?;
            return Ok(traffic);
        }
        if let Some(checksum) = checksum.as_deref_mut() {
            checksum.update(&block[..n]);
        }
        traffic.received += n as u64;
    }
}

/// The printable characters of ASCII, from which lines are taken.
const FIRST: u8 = b' ';
const PRINTABLE: usize = 95;
/// Characters of a line, without its end.
const LINE: usize = 72;
const LINE_END: &[u8; 2] = b"\r\n";
/// Bytes after which the lines begin anew.
pub const CHARGEN_PERIOD: usize = PRINTABLE * (LINE + LINE_END.len());

/// One period of what the character generator sends: 95 lines of 72 characters, each beginning one
/// character later (RFC 864, the suggested pattern).
pub fn chargen_period() -> Vec<u8> {
    let character = |at: usize| FIRST + (at % PRINTABLE) as u8;
    (0..PRINTABLE).flat_map(|line| (line..line + LINE).map(character).chain(*LINE_END)).collect()
}

/// Sends lines of characters, whatever it receives, until the client ends the connection (RFC 864).
///
/// A client that closes only its own direction may still read, so that does not end the service.
///
/// # Errors
/// Those of the stream, apart from the client's end.
pub async fn chargen(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Traffic> {
    let (mut from, mut to) = tokio::io::split(stream);
    let period = chargen_period();
    let block = period.repeat(BLOCK.div_ceil(period.len()));
    let mut traffic = Traffic::default();
    let (received, sent) = (&mut traffic.received, &mut traffic.sent);
    let generate = async {
        let mut at = 0;
        loop {
            let n = to.write(&block[at..]).await?;
            *sent += n as u64;
            at = (at + n) % block.len();
        }
    };
    let throw_away = async {
        let mut block = vec![0; BLOCK];
        loop {
            match from.read(&mut block).await? {
                0 => std::future::pending().await,
                n => *received += n as u64,
            }
        }
    };
    let error: io::Error = tokio::select! {
        result = generate => never(result),
        result = throw_away => never(result),
    };
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(traffic),
        _ => Err(error),
    }
}

/// The error of a service that can only end with an error.
fn never(result: io::Result<Infallible>) -> io::Error {
    let Err(error) = result;
    error
}

/// Sends the date and the time and closes (RFC 867).
///
/// # Errors
/// Those of the stream.
pub async fn daytime(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Traffic> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let line = daytime_line(since_1970);
    stream.write_all(line.as_bytes()).await?;
    stream.shutdown().await?;
    let mut traffic = Traffic { received: 0, sent: line.len() as u64 };
    // Reads until the client closes: closing with unread data would reset the connection, and the
    // answer could be lost.
    let mut block = [0; 512];
    loop {
        match stream.read(&mut block).await? {
            0 => return Ok(traffic),
            n => traffic.received += n as u64,
        }
    }
}

/// The first form that RFC 867 suggests, in UTC.
fn daytime_line(since_1970: Duration) -> String {
    const WEEKDAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = WEEKDAYS[(days % 7) as usize];
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {} {day}, {year} {h:02}:{m:02}:{s:02}-UTC\r\n", MONTHS[month])
}

/// Year, month from 0 and day of the month of the day `days` after 1 January 1970.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_character_generator_rotate() {
        let period = chargen_period();
        assert_eq!(period.len(), CHARGEN_PERIOD);
        let lines: Vec<_> = period.chunks(74).collect();
        assert!(lines.iter().all(|line| line.ends_with(b"\r\n")));
        assert!(lines[0].starts_with(b" !\"#$%&'()*+"));
        assert!(lines[1].starts_with(b"!\"#$%&'()*+,"));
        assert!(lines[94].starts_with(b"~ !\"#$"));
        assert_eq!(&lines[0][70..72], b"fg");
    }

    #[test]
    fn dates() {
        let line = |seconds| daytime_line(Duration::from_secs(seconds));
        assert_eq!(line(0), "Thursday, January 1, 1970 00:00:00-UTC\r\n");
        assert_eq!(line(951_782_399), "Monday, February 28, 2000 23:59:59-UTC\r\n");
        assert_eq!(line(951_782_400), "Tuesday, February 29, 2000 00:00:00-UTC\r\n");
        assert_eq!(line(1_798_761_599), "Thursday, December 31, 2026 23:59:59-UTC\r\n");
        assert_eq!(line(4_107_542_400), "Monday, March 1, 2100 00:00:00-UTC\r\n");
    }

    #[tokio::test]
    async fn chargen_ends_with_its_client() {
        let (mut ours, theirs) = tokio::io::duplex(1000);
        let server = tokio::spawn(chargen(theirs));
        let mut bytes = vec![0; 2 * CHARGEN_PERIOD];
        ours.write_all(b"ignored").await.unwrap();
        ours.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, chargen_period().repeat(2));
        drop(ours);
        let traffic = server.await.unwrap().unwrap();
        assert_eq!(traffic.received, 7);
        assert!(traffic.sent >= bytes.len() as u64);
    }

    #[tokio::test]
    async fn discard_sums_up() {
        let mut sum = Adler32::default();
        let stream = tokio::io::join(&b"Wikipedia"[..], tokio::io::sink());
        let traffic = discard(stream, Some(&mut sum)).await.unwrap();
        assert_eq!((traffic, sum.value()), (Traffic { received: 9, sent: 0 }, 0x11e6_0398));
    }
}
