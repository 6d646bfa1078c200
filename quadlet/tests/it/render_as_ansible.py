"""Renders templates as Ansible's template module does, for a test that compares bytes.

Reads {"derived": path, "cases": [{"template": path, "variables": {}}]} from standard input and writes
the rendered texts as a list. Run by the Python of an installation of ansible-core 2.19 or newer.
"""

import json
import os
import sys

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


def main():
    asked = json.load(sys.stdin)
    loader = DataLoader()
    derived = loader.load_from_file(asked["derived"], trusted_as_template=True)
    rendered = []
    for case in asked["cases"]:
        # The same calls, in the same order, as ansible/plugins/action/template.py.
        path = case["template"]
        variables = {**case["variables"], **derived}
        source = trust_as_template(loader.get_text_file_contents(path))
        templar = Templar(loader=loader, variables=variables)
        templar = templar.copy_with_new_env(
            searchpath=[os.path.dirname(path)], available_variables=variables
        )
        overrides = {
            "trim_blocks": True,
            "lstrip_blocks": False,
            "newline_sequence": "\n",
        }
        text = templar.template(source, escape_backslashes=False, overrides=overrides)
        rendered.append(str(text))
    json.dump(rendered, sys.stdout)


main()
