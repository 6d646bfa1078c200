//! Tests of quadletgen's library that need no host: variables, templates, files.

mod rendering;
