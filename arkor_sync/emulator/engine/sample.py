"""The bundled sample data set: requests to a support desk, as chat messages. Pure."""

from __future__ import annotations

from typing import Dict, List, Tuple

NAME = "emulator/sample"
"""The name by which a job asks for this data set."""

SYSTEM = "Sort the customer's message and say what happens next."

_PAIRS: Tuple[Tuple[str, str], ...] = (
    (
        "My invoice shows two charges for July.",
        "billing: A double charge is refunded within three days.",
    ),
    (
        "The invoice has the wrong company name on it.",
        "billing: Send us the right name and we issue a corrected invoice.",
    ),
    (
        "Can I pay by bank transfer instead of a card?",
        "billing: Yes. Choose bank transfer under payment methods.",
    ),
    (
        "Please cancel my subscription at the end of the month.",
        "billing: It is cancelled from the first of next month.",
    ),
    ("I was charged after I cancelled.", "billing: That charge is refunded within three days."),
    (
        "Do you offer a discount for schools?",
        "sales: Schools get half off. Write to us from a school address.",
    ),
    (
        "How many seats does the team plan have?",
        "sales: The team plan has ten seats, and more can be added.",
    ),
    (
        "Is there a trial of the enterprise plan?",
        "sales: Yes, thirty days. A colleague will contact you.",
    ),
    (
        "I cannot sign in since this morning.",
        "account: Reset your password, and tell us if that does not help.",
    ),
    (
        "The password reset mail never arrives.",
        "account: Look in the spam folder; we have also sent it again.",
    ),
    (
        "How do I turn on two-factor sign-in?",
        "account: Under security, choose two-factor and scan the code.",
    ),
    (
        "Please delete my account and all my data.",
        "account: Confirm the mail we sent and all data is gone in a week.",
    ),
    (
        "My colleague left; how do I remove them?",
        "account: Under members, choose their name and then remove.",
    ),
    (
        "The export button does nothing in Firefox.",
        "bug: Known in Firefox. A fix is on its way; use Chrome until then.",
    ),
    (
        "The app crashes when I open a large file.",
        "bug: Thank you. Send us the file size and the crash report.",
    ),
    (
        "Search returns nothing since the update.",
        "bug: The search index is being rebuilt and is back in an hour.",
    ),
    (
        "Dates are shown in the wrong time zone.",
        "bug: Set your time zone under profile; the default was wrong.",
    ),
    (
        "The page loads very slowly today.",
        "bug: One server was overloaded. It is back to normal now.",
    ),
    (
        "Could you add a dark mode?",
        "feature: Dark mode is planned for spring. Your vote is counted.",
    ),
    (
        "I would like to import my notes from a CSV file.",
        "feature: CSV import is on the list. Your vote is counted.",
    ),
    (
        "Please add keyboard shortcuts to the editor.",
        "feature: Shortcuts are in the beta. You have been invited.",
    ),
    (
        "Where can I find the API documentation?",
        "docs: The API documentation is under help, developers.",
    ),
    ("What is the rate limit of the API?", "docs: Six hundred requests a minute for each key."),
    ("Is there an example for webhooks?", "docs: Yes, under help, developers, webhooks."),
)

RECORDS: List[List[Dict[str, str]]] = [
    [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    for question, answer in _PAIRS
]
