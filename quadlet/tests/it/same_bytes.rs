//! Ansible and quadletgen make the same bytes of every template.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use quadletgen::{
    jinja::{self, Context},
    layout::Layout,
    render,
    variables::{Variables, spec},
};
use serde_json::{Value, json};

use crate::samples;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where `make deps` puts Ansible.
fn ansible(program: &str) -> PathBuf {
    let home = env::var_os("DISPATCHER_ANSIBLE_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap()).join(".local/share/dispatcher/ansible"),
        PathBuf::from,
    );
    let found = home.join("bin").join(program);
    assert!(found.exists(), "{} is missing: run `make deps`", found.display());
    found
}

/// What a template is rendered with here.
fn context(variables: &Variables, layout: &Layout) -> Context {
    let mut context = render::context(variables, layout);
    context.insert("__dispatcher_instance".to_owned(), json!(3));
    context.insert("__dispatcher_volume".to_owned(), json!("dispatcher-store"));
    context
}

/// The same, without what Ansible derives by itself.
fn given(context: &Context) -> Context {
    let derived: Context = yaml_serde::from_str(
        &fs::read_to_string(repository().join("templates/derived.yml")).unwrap(),
    )
    .unwrap();
    let is_given = |name: &String| !derived.contains_key(name);
    context.clone().into_iter().filter(|(name, _)| is_given(name)).collect()
}

fn path(template: &str) -> String {
    repository().join("templates").join(template).display().to_string()
}

#[test]
fn every_template_on_the_disk_is_in_the_program() {
    let mut found: Vec<String> = Vec::new();
    let mut directories = vec![repository().join("templates")];
    while let Some(directory) = directories.pop() {
        for item in fs::read_dir(directory).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == "j2") {
                let name = path.strip_prefix(repository().join("templates")).unwrap();
                found.push(name.display().to_string());
            }
        }
    }
    found.sort();
    let mut known: Vec<_> =
        render::templates::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn ansibles_templar_gives_the_same_bytes_for_many_sets_of_variables() {
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for (number, set) in samples::sets(60).into_iter().enumerate() {
        let facts = samples::facts(number);
        let layout = match facts.rootless {
            true => Layout::user(Path::new("/home/eve"), Path::new("/run/user/1000")),
            false => Layout::system(),
        };
        let variables = Variables::new(set.clone(), &facts).unwrap();
        let context = context(&variables, &layout);
        for (name, source) in render::templates::ALL {
            let rendered = jinja::render(name, source, &context)
                .unwrap_or_else(|error| panic!("{name} with {set:?}: {error:#}"));
            ours.push((name, set.clone(), rendered));
            cases.push(json!({ "template": path(name), "variables": given(&context) }));
        }
    }
    let theirs = rendered_by_ansible(&cases);
    assert_eq!(theirs.len(), ours.len());
    for ((name, set, rendered), text) in ours.iter().zip(&theirs) {
        assert_eq!(rendered, text, "{name} differs with {}", Value::Object(set.clone()));
    }
}

fn rendered_by_ansible(cases: &[Value]) -> Vec<String> {
    let mut python = Command::new(ansible("python"))
        .arg(repository().join("quadlet/tests/it/render_as_ansible.py"))
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({ "derived": path("derived.yml"), "cases": cases });
    let mut input = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(asked.to_string().as_bytes()).unwrap());
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "Ansible could not render: see above");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_template_module_itself_writes_the_same_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let set = json!({
        "dispatcher_public_url": "https://d.example.com",
        "dispatcher_settings": { "RETENTION_RUNS": "30d", "ODD": "a\\b $c 'd' \"e\"" },
        "dbhost": "db.example.com",
    });
    let Value::Object(set) = set else { unreachable!() };
    let variables = Variables::new(set, &samples::facts(0)).unwrap();
    let context = context(&variables, &Layout::system());
    fs::write(file("vars.json"), Value::Object(given(&context)).to_string()).unwrap();
    let items: Vec<Value> = (render::templates::ALL.iter().enumerate())
        .map(|(number, (name, _))| json!({ "src": path(name), "dest": file(&number.to_string()) }))
        .collect();
    let play = json!([{
        "hosts": "localhost", "connection": "local", "gather_facts": false,
        "vars_files": [file("vars.json"), path("derived.yml")],
        "tasks": [{
            "ansible.builtin.template": { "src": "{{ item.src }}", "dest": "{{ item.dest }}", "mode": "0600" },
            "loop": items,
        }],
    }]);
    fs::write(file("play.yml"), play.to_string()).unwrap();
    let output = Command::new(ansible("ansible-playbook"))
        .args([
            "-i",
            "localhost,",
            "-e",
            "ansible_python_interpreter={{ ansible_playbook_python }}",
        ])
        .arg(file("play.yml"))
        .env("LC_ALL", "C.UTF-8")
        .env("ANSIBLE_LOCALHOST_WARNING", "false")
        .env("ANSIBLE_HOME", file("home"))
        .env("ANSIBLE_LOCAL_TEMP", file("tmp"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for (number, (name, source)) in render::templates::ALL.iter().enumerate() {
        let theirs = fs::read_to_string(file(&number.to_string())).unwrap();
        assert_eq!(theirs, jinja::render(name, source, &context).unwrap(), "{name} differs");
    }
}

#[test]
fn every_variable_has_a_type_and_a_description_and_a_default_of_that_type() {
    for variable in spec::all().unwrap() {
        assert!(variable.description.ends_with('.'), "{}", variable.name);
        if !variable.default.is_null() {
            let set = [(variable.name.clone(), variable.default.clone())].into_iter().collect();
            let found = Variables::new(set, &samples::facts(0));
            assert!(found.is_ok(), "{}: {}", variable.name, found.unwrap_err());
        }
    }
}
