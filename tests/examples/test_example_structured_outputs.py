"""The example of answers in a given shape, run as its reader runs it."""

from __future__ import annotations

from support.example_runs import printed_by


def test_each_checkpoint_chooses_a_text_calls_the_tool_and_fills_the_dataclass() -> None:
    lines = printed_by("structured_outputs.py").splitlines()
    asked = [index for index, line in enumerate(lines) if line.startswith("checkpoint ")]
    assert len(asked) == 2
    for index in asked:
        stock, call, after = lines[index + 1 : index + 4]
        assert stock.startswith("  a stock reply:  category: billing | priority: low")
        assert call.startswith("  a tool call:    file_ticket({'triage': 'category: billing")
        assert after.startswith("  after the tool: category: billing")
    assert "  step 60: Triage(summary='category: billing" in lines[-2]
    assert lines[-1] == "status: completed"
