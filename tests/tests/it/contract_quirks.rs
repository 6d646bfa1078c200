//! Which test shows which quirk of the original: those that are kept, since somebody may depend on them,
//! and those that are not, each with the safe behaviour in its place. A test that is gone or called
//! otherwise is missed here.

use std::{collections::BTreeSet, path::Path};

/// A quirk, and the tests that show what becomes of it.
type Quirk = (&'static str, &'static [&'static str]);

/// What is kept, by its number in the contract. Kafka is not spoken, and with it goes the twelfth.
const KEPT: [Quirk; 16] = [
    (
        "spelling, codes and zero ids of items",
        &[
            "every_item_has_its_own_outcome_in_the_order_of_the_request",
            "every_code_and_the_zero_id_in_the_order_of_the_request",
        ],
    ),
    (
        "bodies before keys, 404 for a wrong method, identity errors as plain text",
        &[
            "bodies_are_checked_before_keys_and_keys_before_anything_else",
            "unknown_paths_and_methods_answer_as_their_group_does",
            "the_key_is_checked_first_then_the_identity_then_the_query",
        ],
    ),
    (
        "connection_status needs no key",
        &["the_body_is_checked_first_then_the_identity_and_no_key_is_needed"],
    ),
    (
        "the default timeout, and which UUIDs are taken where",
        &[
            "the_default_timeout_is_put_in_place_of_nothing_and_null",
            "formats_are_those_of_the_contract",
            "filters_are_anded_and_expiry_counts_at_once",
        ],
    ),
    ("the marker of a gap", &["what_is_missing_is_marked_until_it_comes"]),
    (
        "every host has the log of the whole run",
        &["stored_events_are_those_of_the_last_upload_in_its_order_and_hosts_have_the_whole_log"],
    ),
    ("localhost where no host is named", &["hosts_are_sorted_and_there_is_always_one"]),
    (
        "which states are final",
        &["states_obey_the_rules", "an_end_is_an_end", "a_late_success_replaces_a_timeout"],
    ),
    (
        "expiry as it is read",
        &[
            "status_is_judged_at_the_time_of_asking",
            "host_filters_look_at_the_run_where_the_contract_says",
        ],
    ),
    (
        "services of all permissions, none is every one",
        &["permissions_open_the_door_and_limit_services"],
    ),
    (
        "links of the public lists",
        &["runs_are_sorted_and_paged_with_links", "keys_are_sorted_escaped_and_replaced"],
    ),
    ("headers and keys of Kafka", &[]),
    (
        "metadata are texts, and one is left out where it is empty",
        &["a_host_gets_three_texts", "a_satellite_gets_eleven_texts_or_twelve"],
    ),
    (
        "names of settings, metrics, commands, and the bookkeeping of migrations",
        &[
            "what_can_be_counted_is_there_at_0_with_the_originals_labels",
            "a_database_of_ours_has_all_that_the_original_needs_by_name",
            "serve_embeds_nothing_silently",
            "it_is_off_and_has_the_originals_defaults",
        ],
    ),
    (
        "unknown fields and members are ignored or refused as they were",
        &[
            "bad_queries_are_refused_in_the_contracts_words",
            "filters_are_anded_and_expiry_counts_at_once",
        ],
    ),
    ("labels that are null", &["lists_show_rows_of_every_kind"]),
];

/// What is not kept, likewise.
const MENDED: [Quirk; 18] = [
    (
        "a host without a name",
        &["a_run_is_stored_before_anybody_is_told_of_it_and_a_bad_host_tells_nobody"],
    ),
    ("uploads that crash", &["what_crashed_the_original_is_only_an_upload"]),
    ("a database that cannot be read", &["every_failure_of_the_database_is_counted"]),
    (
        "bombs, and archives that cannot be had",
        &[
            "hostile_archives_are_invalid_and_change_nothing",
            "bombs_are_refused_while_they_open",
            "an_archive_that_is_gone_is_said_and_holds_nobody_up",
        ],
    ),
    (
        "how large uploads are shortened",
        &[
            "a_large_upload_keeps_its_whole_log_and_shortens_its_events",
            "events_of_large_uploads_are_shortened_and_the_log_is_not",
        ],
    ),
    (
        "a message before its run is stored",
        &[
            "a_run_is_stored_before_anybody_is_told_of_it_and_a_bad_host_tells_nobody",
            "a_process_that_dies_after_sending_sends_once_and_the_upload_settles_the_run",
        ],
    ),
    ("results that are overwritten", &["a_result_wins_whoever_is_first", "many_cleaners_at_once"]),
    (
        "updates together, ends lost, hosts reopened",
        &["in_partial_mode_every_event_counts_for_itself"],
    ),
    (
        "sequences beyond the column",
        &[
            "in_partial_mode_every_event_counts_for_itself",
            "sequences_beyond_the_column_are_counted_beside_it",
        ],
    ),
    (
        "success without a host",
        &["what_crashed_the_original_is_only_an_upload", "only_the_end_of_a_run_is_needed"],
    ),
    ("links that cannot be followed", &["links_can_be_followed_and_lead_through_everything"]),
    ("pages without an order", &["order_and_pages"]),
    ("an id that is none in a filter", &["bad_queries_are_refused_in_the_contracts_words"]),
    (
        "connection_status in the name of another, twice, with too few or too many hosts",
        &[
            "hosts_are_grouped_by_how_they_are_reached_in_order",
            "a_connector_that_fails_is_one_clean_500",
            "what_inventory_does_not_know_is_not_in_the_answer",
            "facts_that_are_odd_do_no_harm",
        ],
    ),
    (
        "404 for a database, probes that panic, an empty organisation, keys of two services",
        &[
            "a_database_that_fails_is_not_a_run_that_is_not_there",
            "probes_say_what_is_missing",
            "entries_are_trimmed_and_an_empty_one_blocks_nobody",
            "serve_runs_on_sqlite_when_told_to_and_stops_two_services_with_one_key",
        ],
    ),
    (
        "updates that are lost",
        &[
            "acknowledged_uploads_survive_a_kill_anywhere",
            "put_back_it_does_not_count",
            "uploads_are_counted_as_validator_and_consumer_counted_them",
        ],
    ),
    ("when a host changed", &["uploads_cancellations_and_the_cleaner_take_rows_of_every_kind"]),
    (
        "blanks in the list of blocked organisations; permissions that narrow stay as they are",
        &[
            "entries_are_trimmed_and_an_empty_one_blocks_nobody",
            "permissions_open_the_door_and_limit_services",
        ],
    ),
];

/// Names of everything that is a test, or a case of the conformance suite.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["api/src", "tests/src/conformance", "tests/tests/it"];
    let entries = folders.iter().flat_map(|folder| walkdir::WalkDir::new(root.join(folder)));
    let files = entries.map(|entry| entry.unwrap().into_path());
    let mut names = BTreeSet::new();
    for file in files.filter(|path| path.extension().is_some_and(|ending| ending == "rs")) {
        let is_case = file.components().any(|part| part.as_os_str() == "conformance");
        let text = std::fs::read_to_string(&file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let Some((_, rest)) = line.split_once("fn ") else { continue };
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
            if is_test || (is_case && line.starts_with("pub async fn ")) {
                names.extend(name.map(str::to_owned));
            }
            is_test = false;
        }
    }
    names
}

#[test]
fn every_quirk_has_a_test_that_is_there() {
    let tests = tests();
    assert!(tests.len() > 500, "only {} tests were found", tests.len());
    for (quirk, shown_by) in KEPT.iter().chain(&MENDED) {
        assert_eq!(shown_by.is_empty(), quirk.contains("Kafka"), "{quirk}");
        for name in *shown_by {
            assert!(tests.contains(*name), "{quirk}: there is no test called {name}");
        }
    }
}
