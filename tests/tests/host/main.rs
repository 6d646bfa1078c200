//! The deployment on real hosts: systemd as PID 1, Podman, HAProxy. Needs root and the images of
//! `tests/testhost/images`: `make test-host` makes them and runs this. `LONG=1` takes all the time
//! that it takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should panic"
)]

mod application;
mod broken;
mod deployed;
mod first;
mod foreign;
mod guarded;
mod host;
mod image;
mod killed;
mod lacking;
mod load;
mod lossless;
mod measured;
mod older;
mod packed;
mod playbook;
mod published;
mod readiness;
mod refused;
mod rendered;
mod role;
mod role_images;
mod role_load;
mod role_seed;
mod role_several;
mod scales;
mod secrets;
mod services;
mod turns;
mod user;
