//! The cleaner: what time does to runs and to what is kept.
