//! Feeds with stubs around them.
