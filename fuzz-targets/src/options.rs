//! TCP and IPv4 options: whatever is read is written again, and read as the same.

use crate::packets::{self, Ends};
use crate::world::address;
use arbitrary::{Arbitrary, Result, Unstructured};
use netstack::ip::{OptionsV4, check_options_v4};
use netstack::wire::{
    AccEcn, FastOpenCookie, FastOpenOption, Flags, MAX_TCP_OPTIONS, Options, SackBlock, Segment, SeqNum,
    TCP_HEADER_LEN, Timestamps, options_len, parse_ip, parse_tcp,
};

/// Options of a header as bytes or as values.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Input that is too short is no case.
    let _ = case(&mut u);
}

fn case(u: &mut Unstructured<'_>) -> Result<()> {
    let flags = Flags::from_bits(u.arbitrary()?);
    if u.arbitrary()? {
        let mut options = some(u)?;
        if !flags.contains(Flags::SYN) {
            // What is not to be there is not read.
            options =
                Options { mss: None, window_scale: None, sack_permitted: false, fast_open: None, ..options };
        }
        check(flags, &options);
    } else {
        let raw = u.bytes(u.len().min(MAX_TCP_OPTIONS))?;
        check_options_of_ip(raw);
        let mut header = vec![0; TCP_HEADER_LEN];
        header.extend_from_slice(raw);
        header.resize(header.len().next_multiple_of(4), 0);
        header[12] = (header.len() as u8 / 4) << 4;
        let [high, low] = flags.bits().to_be_bytes();
        header[12] |= high;
        header[13] = low;
        let (segment, at) = parse_tcp(&header).expect("a whole header");
        assert_eq!((at, segment.flags, segment.payload_len), (header.len(), flags, 0));
        check(flags, &segment.options);
    }
    Ok(())
}

fn some(u: &mut Unstructured<'_>) -> Result<Options> {
    let mut options = Options {
        mss: u.arbitrary::<Option<u16>>()?.filter(|mss| *mss != 0),
        window_scale: u.arbitrary()?,
        sack_permitted: u.arbitrary()?,
        timestamps: u.arbitrary::<Option<(u32, u32)>>()?.map(|(tsval, tsecr)| Timestamps { tsval, tsecr }),
        ..Options::default()
    };
    for _ in 0..u.int_in_range(0..=4)? {
        let (start, end) = (SeqNum::new(u.arbitrary()?), SeqNum::new(u.arbitrary()?));
        options.sack.push(SackBlock { start, end });
    }
    if u.arbitrary()? {
        let len = 2 * u.int_in_range(2..=8)?;
        let cookie: [u8; 16] = u.arbitrary()?;
        let cookie = if u.arbitrary()? { FastOpenCookie::new(&cookie[..len]) } else { None };
        options.fast_open = Some(FastOpenOption { cookie, experimental: u.arbitrary()? });
    }
    if u.arbitrary()? {
        let fields = (0..u.int_in_range(0..=3)?).map(|_| Ok(u32::arbitrary(u)? & 0xff_ffff));
        let fields = fields.collect::<Result<_>>()?;
        options.acc_ecn = Some(AccEcn { ect1_first: u.arbitrary()?, fields });
    }
    Ok(options)
}

fn check(flags: Flags, options: &Options) {
    let len = options_len(options);
    assert!(len.is_multiple_of(4) && len <= MAX_TCP_OPTIONS);
    let ends = Ends { src: (address(1, false), 9), dst: (address(0, false), 80) };
    let segment = Segment { options: options.clone(), ..Segment::new(flags, SeqNum::new(1), SeqNum::new(2)) };
    let packet = packets::tcp(ends, &segment, &[]);
    let ip = parse_ip(&packet).expect("what is written can be read");
    let (parsed, at) = parse_tcp(&packet[ip.payload]).expect("what is written can be read");
    assert_eq!(at, TCP_HEADER_LEN + len);
    let Options { mss, window_scale, sack_permitted, timestamps, sack, fast_open, acc_ecn } = parsed.options;
    assert_eq!(
        (mss, window_scale, sack_permitted, timestamps, &acc_ecn),
        (options.mss, options.window_scale, options.sack_permitted, options.timestamps, &options.acc_ecn)
    );
    // What does not fit is left out: blocks from the last on, and Fast Open before them.
    assert_eq!(sack[..], options.sack[..sack.len()]);
    assert!(fast_open.is_none() || fast_open == options.fast_open);
    let behind = Options { fast_open: None, ..options.clone() };
    if fast_open != options.fast_open {
        let alone = Options { fast_open: options.fast_open, ..Options::default() };
        assert!(options_len(&behind) + options_len(&alone) > MAX_TCP_OPTIONS, "it would have fitted");
    }
    if sack.len() < options.sack.len() {
        // The first one comes with the option's own bytes.
        let room = if sack.is_empty() { 12 } else { 8 };
        assert!(options_len(&behind) + room > MAX_TCP_OPTIONS, "another block would have fitted");
    }
}

fn check_options_of_ip(raw: &[u8]) {
    if let OptionsV4::Broken(problem) = check_options_v4(raw) {
        let pointer = problem.pointer as usize;
        assert!((20..20 + raw.len()).contains(&pointer), "{problem:?} is not in the options");
    }
}
