#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netstack_fuzz_targets::datagrams::run(data));
