use super::*;
use crate::reasons::DropReason;
use crate::wire::SeqNum;
use std::io::IoSliceMut;

const MSS: usize = 1000;

fn receiver(window: usize) -> Receiver {
    let setup = ReceiverSetup {
        rcv_nxt: base(),
        scale: WindowScale::NONE,
        offered: window,
        sack: true,
        advertised_mss: MSS,
        buffer_size: Some(window),
        clamp: None,
        rtt: Some(Duration::from_millis(10)),
    };
    Receiver::new(Instant::ZERO, setup, &Config::default())
}

fn base() -> Seq {
    Seq::initial(SeqNum::new(5))
}

fn data(r: &mut Receiver, at: usize, len: usize) -> Received {
    r.on_data(Instant::ZERO, base() + at, Chunk::copy_from(&vec![at as u8; len]))
}

fn read(r: &mut Receiver, n: usize) -> bool {
    let mut to = vec![0; n];
    let n = r.buffer.read(&mut [IoSliceMut::new(&mut to)]);
    r.on_read(Instant::ZERO, n)
}

#[test]
fn segments_that_touch_the_window_are_acceptable() {
    let mut r = receiver(10_000);
    let b = base();
    assert!(r.acceptable(b, 0) && r.acceptable(b + 10_000, 0) && !r.acceptable(b + 10_001, 0));
    assert!(!r.acceptable(b - 1, 0), "a keep-alive probe is not acceptable, so it is answered");
    assert!(r.acceptable(b - 5, 6) && !r.acceptable(b - 6, 5));
    data(&mut r, 0, 10_000);
    r.on_ack_sent(0);
    assert_eq!(r.wnd(), 0);
    assert!(r.acceptable(b + 10_000, 1), "a window probe: its acknowledgment counts");
    assert_eq!(data(&mut r, 10_000, 1), Received::Dropped(DropReason::TcpOverwindow), "its text does not");
    assert!(!r.acceptable(b + 10_001, 1));
}

/// Takes `len` bytes at `at` and acknowledges them.
fn take(r: &mut Receiver, at: usize, len: usize) {
    data(r, at, len);
    r.on_ack_sent(r.window_field());
}

#[test]
fn small_segments_close_a_scaled_window_too() {
    for shift in [7, 14] {
        let mut r = receiver(60_000);
        r.scale = WindowScale::from_option(shift);
        r.set_buffer_size(60_000);
        let granularity = r.scale.granularity();
        for len in [1, 100, 127, 1000] {
            for _ in 0..1_000 {
                let at = r.rcv_nxt.since(base());
                take(&mut r, at, len);
            }
        }
        assert!(r.buffer.len() < 60_000 + granularity, "scale {shift}: {} bytes", r.buffer.len());
        assert!(r.buffer.len() > 60_000 - granularity, "scale {shift}: {} bytes", r.buffer.len());
    }
}

#[test]
fn a_clamped_window_opens_again() {
    let mut r = receiver(64_000);
    r.set_clamp(Some(1_152));
    for i in 0..64 {
        take(&mut r, i * 1000, 1000);
        read(&mut r, 1000);
    }
    assert!(r.wnd() <= 1_152 && r.select_window() == 1_152, "{}", r.select_window());
}

#[test]
fn a_window_smaller_than_the_scale_can_say_is_not_scaled_away() {
    let mut r = receiver(2_000);
    r.scale = WindowScale::from_option(14);
    take(&mut r, 0, 2_000);
    assert_eq!(r.window_field(), 0);
    read(&mut r, 2_000);
    assert_eq!(r.window_field(), 1);
}

#[test]
fn a_reader_that_is_behind_is_not_acknowledged_for_at_once() {
    let mut r = receiver(10_000);
    data(&mut r, 0, 2_000);
    assert!(r.full_segments_unacked(), "the window can move on");
    r.on_ack_sent(r.window_field());
    data(&mut r, 2_000, 7_500);
    assert!(!r.full_segments_unacked(), "there is no room to announce");
}

#[test]
fn a_hole_is_filled_and_all_becomes_readable() {
    let mut r = receiver(10_000);
    assert_eq!(data(&mut r, 2000, 1000), Received::OutOfOrder);
    assert_eq!(data(&mut r, 0, 1000), Received::InOrder);
    assert_eq!(r.buffer.len(), 1000);
    assert_eq!(data(&mut r, 500, 2000), Received::InOrder, "both ends overlap");
    assert_eq!(r.buffer.len(), 3000);
    assert!(r.assembler.is_empty());
}

#[test]
fn duplicates_are_reported_once_and_first() {
    let mut r = receiver(10_000);
    data(&mut r, 0, 1000);
    data(&mut r, 2000, 1000);
    assert_eq!(data(&mut r, 200, 300), Received::Dropped(DropReason::TcpOldData));
    let blocks = r.sack_blocks(3);
    assert_eq!(blocks[0].start, (base() + 200).wire());
    assert_eq!(blocks[0].end, (base() + 500).wire());
    assert_eq!(blocks[1].start, (base() + 2000).wire());
    r.on_ack_sent(r.window_field());
    assert_eq!(r.sack_blocks(3).len(), 1);
}

#[test]
fn a_duplicate_of_queued_data_names_its_run_second() {
    let mut r = receiver(10_000);
    data(&mut r, 2000, 1000);
    data(&mut r, 5000, 1000);
    data(&mut r, 2500, 100);
    let blocks = r.sack_blocks(3);
    assert_eq!(blocks[0].start, (base() + 2500).wire());
    assert_eq!(blocks[1].start, (base() + 2000).wire());
    assert_eq!(blocks[2].start, (base() + 5000).wire());
}

/// RFC 2883 §4. The text in order takes the place of what
/// waited.
#[test]
fn text_in_order_over_queued_text_is_reported_as_a_duplicate() {
    // What waits, what comes; what is acknowledged, what is reported first.
    for (queued, (at, len), nxt, duplicate) in [
        (&[(1000, 1000)][..], (0, 2000), 2000, Some((1000, 2000))),
        (&[(1000, 2000)], (0, 2000), 3000, Some((1000, 2000))),
        (&[(500, 100)], (0, 2000), 2000, Some((500, 600))),
        (&[(500, 100), (800, 100)], (0, 2000), 2000, Some((500, 600))),
        (&[(500, 100), (600, 100)], (0, 2000), 2000, Some((500, 700))),
        (&[(1000, 1000), (5000, 1000)], (0, 1500), 2000, Some((1000, 1500))),
        (&[(1000, 1000)], (0, 1000), 2000, None),
    ] {
        let mut r = receiver(10_000);
        for (at, len) in queued {
            data(&mut r, *at, *len);
        }
        r.on_ack_sent(r.window_field());
        assert_eq!(data(&mut r, at, len), Received::InOrder);
        assert_eq!(r.rcv_nxt, base() + nxt);
        let range = |from, to| SackBlock { start: (base() + from).wire(), end: (base() + to).wire() };
        let later = queued.iter().filter(|(at, _)| *at > nxt).map(|(at, len)| range(*at, at + len));
        let expected: Vec<_> = duplicate.map(|(from, to)| range(from, to)).into_iter().chain(later).collect();
        assert_eq!(r.sack_blocks(3).as_slice(), expected, "{queued:?} {at} {len}");
    }
    // What lay before RCV.NXT comes first.
    let mut r = receiver(10_000);
    data(&mut r, 0, 500);
    data(&mut r, 1000, 500);
    r.on_ack_sent(r.window_field());
    data(&mut r, 0, 2000);
    assert_eq!(r.sack_blocks(3).len(), 1);
    assert_eq!(r.sack_blocks(3)[0].end, (base() + 500).wire());
    let mut r = receiver(10_000);
    data(&mut r, 0, 500);
    data(&mut r, 1000, 500);
    r.on_text(Instant::ZERO, base() + 500, Chunk::copy_from(&[0; 1000]), &plain());
    assert!(r.ack_is_urgent(), "the next acknowledgment would not say it");
}

fn plain() -> TextMeta {
    TextMeta { gso_size: None, push: false, echo: None, rto: Duration::from_secs(1), srtt: None }
}

#[test]
fn data_beyond_the_window_is_cut_off() {
    let mut r = receiver(1500);
    data(&mut r, 0, 1000);
    data(&mut r, 1000, 1000);
    assert_eq!(r.buffer.len(), 1500);
    assert_eq!(data(&mut r, 1500, 10), Received::Dropped(DropReason::TcpOverwindow));
}

#[test]
fn the_fin_waits_for_what_is_before_it_and_nothing_comes_after() {
    let mut r = receiver(10_000);
    r.expect_fin(base() + 1000, base() + 1000);
    assert!(!r.take_fin());
    data(&mut r, 1001, 500);
    data(&mut r, 0, 1000);
    assert!(r.take_fin());
    assert!(r.assembler.is_empty(), "data after the FIN is dropped");
    assert_eq!(r.buffer.len(), 1000);
    assert_eq!(r.rcv_nxt, base() + 1001);
}

#[test]
fn a_fin_beyond_a_hole_is_in_the_sack_blocks() {
    let blocks = |r: &Receiver| -> Vec<_> {
        let position = |n: SeqNum| base().nearest(n).since(base());
        r.sack_blocks(3).iter().map(|block| (position(block.start), position(block.end))).collect()
    };
    let fin = |r: &mut Receiver, start: usize, len: usize| {
        r.expect_fin(base() + start, base() + start + len);
        if len > 0 {
            data(r, start, len);
        }
    };
    // With the text that it follows.
    let mut r = receiver(10_000);
    fin(&mut r, 1000, 500);
    assert_eq!(blocks(&r), [(1000, 1501)]);
    assert_eq!(r.sack_edge(), Some(base() + 1501), "where Linux takes a reset");
    data(&mut r, 3000, 10);
    assert_eq!(blocks(&r), [(3000, 3010), (1000, 1501)]);
    // Alone, and then behind text that comes later.
    let mut r = receiver(10_000);
    data(&mut r, 1000, 500);
    fin(&mut r, 2000, 0);
    assert_eq!(blocks(&r), [(2000, 2001), (1000, 1500)]);
    data(&mut r, 500, 100);
    assert_eq!(blocks(&r), [(500, 600), (1000, 1500), (2000, 2001)]);
    data(&mut r, 1500, 500);
    assert_eq!(blocks(&r), [(1000, 2001), (500, 600)]);
    data(&mut r, 0, 500);
    assert_eq!(blocks(&r), [(1000, 2001)]);
    data(&mut r, 600, 400);
    assert!(r.take_fin());
    assert_eq!(blocks(&r), []);
}

#[test]
fn the_right_edge_never_moves_left_and_moves_right_by_a_useful_amount() {
    let mut r = receiver(10_000);
    data(&mut r, 0, 9_900);
    assert_eq!(r.window_field(), 100, "what was offered stays offered");
    r.on_ack_sent(100);
    read(&mut r, 100);
    assert_eq!(r.window_field(), 100, "100 bytes more are not worth a move");
    assert!(read(&mut r, 2_000), "the reader made room: announce it");
    assert_eq!(r.window_field(), 2_200);
}

#[test]
fn the_window_grows_on_a_path_where_one_packet_is_a_whole_window() {
    let setup = ReceiverSetup {
        rcv_nxt: base(),
        scale: WindowScale::from_option(7),
        offered: 64_240,
        sack: true,
        advertised_mss: 1460,
        buffer_size: None,
        clamp: None,
        rtt: Some(Duration::ZERO),
    };
    let mut r = Receiver::new(Instant::ZERO, setup, &Config::default());
    // 60 kB every 20 us, read in halves as it comes.
    for i in 1..2_000u64 {
        let now = Instant::from_micros(20 * i);
        let at = r.rcv_nxt;
        r.on_data(now, at, Chunk::copy_from(&vec![0; 60_000.min(r.wnd())]));
        for _ in 0..2 {
            let n = r.buffer.len() / 2;
            r.buffer.read(&mut [IoSliceMut::new(&mut vec![0; n])]);
            r.on_read(now, n);
        }
        r.buffer.clear();
        r.on_ack_sent(r.window_field());
    }
    assert!(r.limit() > 1 << 20, "{}", r.limit());
}

#[test]
fn the_window_follows_what_the_reader_takes() {
    let setup = ReceiverSetup {
        rcv_nxt: base(),
        scale: WindowScale::from_option(7),
        offered: 65_535,
        sack: true,
        advertised_mss: 1460,
        buffer_size: None,
        clamp: None,
        rtt: Some(Duration::from_millis(10)),
    };
    let config = Config::default();
    let mut r = Receiver::new(Instant::ZERO, setup, &config);
    let mut now = Instant::ZERO;
    for _ in 0..40 {
        now += Duration::from_millis(10);
        let n = r.wnd();
        let at = r.rcv_nxt;
        r.on_data(now, at, Chunk::copy_from(&vec![0; n]));
        r.buffer.clear();
        r.on_read(now, n);
        r.on_ack_sent(r.window_field());
    }
    assert_eq!(r.limit(), config.recv_buffer_max / 2);
}
