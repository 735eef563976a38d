"""Names in the place of addresses."""

import pytest

from ropeway.app.config.names import named_endpoint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("router", ("router", 51840)),
        ("router.example.net", ("router.example.net", 51840)),
        ("Router.Example.NET:5", ("router.example.net", 5)),
        ("1.2.3.x4", ("1.2.3.x4", 51840)),
        ("xn--bcher-kva.example", ("xn--bcher-kva.example", 51840)),
        ("a" * 63 + ".b", ("a" * 63 + ".b", 51840)),
        (".".join(["a" * 62] * 4)[:253], (".".join(["a" * 62] * 4)[:253], 51840)),
    ],
)
def test_a_name_is_found(text, found):
    assert named_endpoint(text, 51840) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "1.2.3.4", "1.2.3.4:5", "1.2.3", "17", "0x7f", "a.1", "a.1:5", "2001:db8::3"),
        *("[2001:db8::3]:5", "-a", "a-", "a.-b", "a..b", ".a", "a.", "a_b", "a b", "a\n", "ä"),
        *("a:", "a:0", "a:05", "a:65536", "a:b", "a:5:5", "a%eth0", "x" * 64, "x." * 126 + "yz"),
    ],
)
def test_what_is_no_name_is_none(text):
    assert named_endpoint(text, 51840) is None
