//! State tables and two-ended scenarios.
