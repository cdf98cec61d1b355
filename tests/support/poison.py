"""Frames that have broken recorders and databases, each with how it must read back (design, section 8).

`verbatim` is decided by hand here, not by the code under test: strict RFC 8259 in UTF-8, without raw
CR, LF or NUL, at most 100 levels deep.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Poison:
    name: str
    frame: bytes
    verbatim: bool
    """Whether its text is embedded as it is; else the bytes come in base64."""
    text: bool = True
    """Whether it travels as a text message."""


def _nested(depth: int) -> bytes:
    # the object itself is the first level
    return b'{"type":"nested","x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


CORPUS = (
    # NUL and other control characters
    Poison("escaped_nul", b'{"type":"odd","text":"a\\u0000b"}', verbatim=True),
    Poison("escaped_nul_in_key", b'{"type":"odd","a\\u0000b":1}', verbatim=True),
    Poison("escaped_nul_in_type", b'{"type":"a\\u0000b","event_id":"e\\u0000"}', verbatim=True),
    Poison("raw_nul", b'{"type":"odd","text":"a\x00b"}', verbatim=False),
    Poison("raw_nul_at_the_end", b'{"type":"odd"}\x00', verbatim=False),
    Poison("raw_escape_character", b'{"type":"odd","text":"\x1b[31mred"}', verbatim=False),
    Poison("escaped_escape_character", b'{"type":"odd","text":"\\u001b[2J"}', verbatim=True),
    Poison("raw_tab_in_a_string", b'{"type":"odd","text":"a\tb"}', verbatim=False),
    Poison("tab_between_tokens", b'{"type":\t"odd"}', verbatim=True),
    Poison("delete_character", b'{"type":"odd","text":"\x7f"}', verbatim=True),
    # line ends
    Poison("cr_lf_in_a_string", b'{"type":"odd","text":"a\r\nb"}', verbatim=False),
    Poison("cr_lf_between_tokens", b'{"type":"odd",\r\n"text":"a"}', verbatim=False),
    Poison("line_feed_at_the_end", b'{"type":"odd"}\n', verbatim=False),
    Poison("carriage_return_at_the_start", b'\r{"type":"odd"}', verbatim=False),
    Poison("unicode_line_separators", '{"type":"odd","text":"\u2028\u2029\u0085"}'.encode(), verbatim=True),
    # surrogates, byte order marks, encodings
    Poison("lone_high_surrogate", b'{"type":"odd","text":"\\ud83d"}', verbatim=True),
    Poison("lone_low_surrogate", b'{"type":"odd","text":"\\ude00"}', verbatim=True),
    Poison("surrogates_in_the_wrong_order", b'{"type":"odd","text":"\\ude00\\ud83d"}', verbatim=True),
    Poison("lone_surrogate_as_type", b'{"type":"\\ud83d","event_id":"\\udc00"}', verbatim=True),
    Poison("lone_surrogate_in_a_key", b'{"type":"odd","\\ud83d":1}', verbatim=True),
    Poison("surrogates_in_utf_8", b'{"type":"odd","text":"\xed\xa0\xbd\xed\xb8\x80"}', verbatim=False),
    Poison("byte_order_mark", b'\xef\xbb\xbf{"type":"odd"}', verbatim=False),
    Poison("invalid_utf_8", b'{"type":"odd","text":"\xff\xfe"}', verbatim=False),
    Poison("invalid_utf_8_in_a_key", b'{"type":"odd","\xff":1}', verbatim=False),
    Poison("overlong_utf_8", b'{"type":"odd","text":"\xc0\xaf"}', verbatim=False),
    Poison("utf_8_cut_short", b'{"type":"odd","text":"\xf0\x9f\x98', verbatim=False),
    Poison("utf_16", '{"type":"odd"}'.encode("utf-16"), verbatim=False, text=False),
    Poison("latin_1", '{"type":"odd","text":"é"}'.encode("latin-1"), verbatim=False),
    # numbers
    Poison("not_a_number", b'{"type":"odd","x":NaN}', verbatim=False),
    Poison("infinity", b'{"type":"odd","x":[Infinity,-Infinity]}', verbatim=False),
    Poison("integer_of_5000_digits", b'{"type":"odd","x":' + b"9" * 5000 + b"}", verbatim=True),
    Poison("integer_beyond_64_bits", b'{"type":"odd","x":[18446744073709551616,-9223372036854775809]}', verbatim=True),
    Poison("huge_exponents", b'{"type":"odd","x":[1e999,-1E+9999,1e-99999]}', verbatim=True),
    Poison("leading_zero", b'{"type":"odd","x":007}', verbatim=False),
    Poison("negative_zero", b'{"type":"odd","x":[-0,-0.0]}', verbatim=True),
    # depth
    Poison("100_levels", _nested(100), verbatim=True),
    Poison("101_levels", _nested(101), verbatim=False),
    Poison("2000_levels", _nested(2000), verbatim=False),
    Poison("100000_levels", _nested(100_000), verbatim=False),
    Poison("open_brackets_without_end", b"[" * 50_000, verbatim=False),
    Poison("brackets_in_a_string", b'{"type":"odd","text":"' + b"[{" * 500 + b'"}', verbatim=True),
    # keys
    Poison("type_twice", b'{"type":"first","type":"second","event_id":"a","event_id":"b"}', verbatim=True),
    Poison("prototype", b'{"type":"odd","__proto__":{"admin":true},"constructor":null}', verbatim=True),
    Poison("empty_key", b'{"type":"odd","":""}', verbatim=True),
    Poison("payload_as_key", b'{"type":"a\\",\\"payload\\":1","payload":{"kind":"gap"}}', verbatim=True),
    # the top level
    Poison("array", b'["type","odd"]', verbatim=True),
    Poison("empty_array", b"[]", verbatim=True),
    Poison("string", b'"type"', verbatim=True),
    Poison("number", b"42", verbatim=True),
    Poison("null", b"null", verbatim=True),
    Poison("true", b"true", verbatim=True),
    Poison("empty_object", b"{}", verbatim=True),
    Poison("empty_frame", b"", verbatim=False),
    Poison("empty_binary_frame", b"", verbatim=False, text=False),
    Poison("blanks_alone", b"   ", verbatim=False),
    # what is nearly JSON
    Poison("two_values", b'{"type":"odd"}{"type":"even"}', verbatim=False),
    Poison("words_after_the_value", b'{"type":"odd"} and more', verbatim=False),
    Poison("blank_after_the_value", b' {"type":"odd"} ', verbatim=True),
    Poison("comma_at_the_end", b'{"type":"odd",}', verbatim=False),
    Poison("comment", b'{"type":"odd"/* no */}', verbatim=False),
    Poison("single_quotes", b"{'type':'odd'}", verbatim=False),
    Poison("no_json", b"event: odd", verbatim=False),
    Poison("bad_escape", b'{"type":"odd","text":"\\x41"}', verbatim=False),
    # binary
    Poison("binary_json", b'{"type":"odd","binary":true}', verbatim=True, text=False),
    Poison("binary_noise", bytes(range(256)), verbatim=False, text=False),
    # types
    Poison("type_null", b'{"type":null,"event_id":null}', verbatim=True),
    Poison("type_number", b'{"type":7,"event_id":8}', verbatim=True),
    Poison("type_list", b'{"type":["response.done"],"event_id":{}}', verbatim=True),
    Poison("type_of_10_kb", b'{"type":"' + b"t" * 10_000 + b'","event_id":"' + b"e" * 10_000 + b'"}', verbatim=True),
    Poison("type_with_quotes", b'{"type":"a\'); DROP TABLE entry; --\\"%_*?["}', verbatim=True),
    Poison("internal_names_gap", b'{"type":"gap","kind":"gap","reason":"shed"}', verbatim=True),
    Poison("internal_names_command", b'{"type":"hangup","event_id":"rto_1_1","source":"policy"}', verbatim=True),
    Poison("internal_names_none", b'{"type":"(none)"}', verbatim=True),
    # known types with wrong insides
    Poison("done_without_response", b'{"type":"response.done"}', verbatim=True),
    Poison("response_as_list", b'{"type":"response.done","response":[1,2]}', verbatim=True),
    Poison("usage_as_text", b'{"type":"response.done","response":{"id":1,"usage":"lots"}}', verbatim=True),
    Poison(
        "usage_beyond_64_bits",
        b'{"type":"response.done","response":{"id":"resp_big","usage":{"total_tokens":1e30,"input_tokens":'
        + b"9" * 40
        + b',"output_tokens":-5}}}',
        verbatim=True,
    ),
    Poison("item_as_number", b'{"type":"conversation.item.added","item":5}', verbatim=True),
    Poison("item_without_id", b'{"type":"conversation.item.added","item":{"type":"message"}}', verbatim=True),
    Poison("delta_as_object", b'{"type":"response.output_text.delta","item_id":{},"delta":{}}', verbatim=True),
    Poison("error_as_text", b'{"type":"error","error":"oh"}', verbatim=True),
    Poison("session_as_null", b'{"type":"session.updated","session":null}', verbatim=True),
    Poison(
        "lone_surrogate_in_a_transcript",
        b'{"type":"conversation.item.input_audio_transcription.completed","item_id":"item_\\ud83d",'
        b'"content_index":0,"transcript":"half \\ud83d"}',
        verbatim=True,
    ),
    Poison(
        "surrogate_and_nul_in_a_known_item",
        b'{"type":"conversation.item.added","previous_item_id":null,"item":{"id":"item_p","type":"message",'
        b'"role":"user","content":[{"type":"input_text","text":"\\ud83d\\u0000"}]}}',
        verbatim=True,
    ),
    # size
    Poison("string_of_1_mib", b'{"type":"odd","text":"' + b"x" * 1024 * 1024 + b'"}', verbatim=True),
    Poison(
        "100000_keys",
        b'{"type":"odd",' + b",".join(b'"k%d":%d' % (number, number) for number in range(100_000)) + b"}",
        verbatim=True,
    ),
    # markup and direction
    Poison("markup", b'{"type":"odd","text":"</script><script>alert(1)</script>"}', verbatim=True),
    Poison("text_direction", '{"type":"odd","text":"\u202egnp.exe\u2066"}'.encode(), verbatim=True),
)
