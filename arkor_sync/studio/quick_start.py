"""How to ask an endpoint, in the languages of those who do. Pure."""

from __future__ import annotations

import json
import shlex
from typing import List, NamedTuple

VARIABLE = "ARKOR_KEY"
"""The environment variable in which the examples look for the key."""

_MESSAGES = [{"role": "user", "content": "Hello"}]


class Example(NamedTuple):
    """A short program that asks an endpoint.

    Attributes:
        name: The language, and what it needs.
        text: The program.
    """

    name: str
    text: str


def examples(url: str, slug: str, with_key: bool) -> List[Example]:
    """Write the examples.

    Args:
        url: The endpoint's address, which ends with `/v1`.
        slug: Its slug, which stands for the model.
        with_key: Whether it asks for a key. If not, the examples send none.
    """
    address, base = f"{url}/chat/completions", json.dumps(url)
    body, messages = json.dumps({"messages": _MESSAGES}), json.dumps(_MESSAGES)
    curl = [f"curl {shlex.quote(address)}"]
    python_headers = script_key = ""
    python_os, sdk_key = "", '"none"  # it asks for no key, and the SDK for any text'
    if with_key:
        curl.append(f'-H "Authorization: Bearer ${VARIABLE}"')
        python_os, sdk_key = "import os\n\n", f'os.environ["{VARIABLE}"]'
        python_headers = (
            f'    headers={{"Authorization": f"Bearer {{os.environ[\'{VARIABLE}\']}}"}},\n'
        )
        script_key = f"    Authorization: `Bearer ${{process.env.{VARIABLE}}}`,\n"
    curl += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(body)}"]
    return [
        Example("cURL", " \\\n  ".join(curl)),
        Example(
            "Python with requests",
            f"{python_os}import requests\n\n"
            f"answer = requests.post(\n    {json.dumps(address)},\n{python_headers}"
            f"    json={body},\n    timeout=60,\n)\n"
            "answer.raise_for_status()\n"
            'print(answer.json()["choices"][0]["message"]["content"])',
        ),
        Example(
            "Python with openai",
            f"{python_os}from openai import OpenAI\n\n"
            f"client = OpenAI(\n    base_url={base},\n    api_key={sdk_key},\n)\n"
            "answer = client.chat.completions.create(\n"
            f"    model={json.dumps(slug)},\n    messages={messages},\n)\n"
            "print(answer.choices[0].message.content)",
        ),
        Example(
            "JavaScript",
            f"const answer = await fetch({json.dumps(address)}, {{\n"
            f'  method: "POST",\n  headers: {{\n    "Content-Type": "application/json",\n'
            f"{script_key}  }},\n  body: JSON.stringify({body}),\n}});\n"
            "if (!answer.ok) throw new Error(await answer.text());\n"
            "console.log((await answer.json()).choices[0].message.content);",
        ),
    ]
