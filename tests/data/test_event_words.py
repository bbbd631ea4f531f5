import pytest

from segmenter_plugin.data.event_words import event_type_of, is_known_type, name_score, words_of


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        ("buy", "purchase"), ("Order Completed", "purchase"), ("transaction", "purchase"),
        ("purchase_line", "purchase"),
        ("pv", "view"), ("click", "view"), ("ProductViewed", "view"), ("view_cart", "view"), ("VIEW", "view"),
        ("cart", "cart"), ("add_to_cart", "cart"), ("addtocart", "cart"), ("ProductAdded", "cart"),
        ("fav", "favourite"), ("add_to_wishlist", "favourite"), ("refund", "return"), ("Returned", "return"),
        ("remove_from_cart", "remove_from_cart"), ("OrderCancelled", "order_cancelled"),
        ("begin_checkout", "begin_checkout"),
        ("campaign_receipt", "campaign_receipt"), ("Comment", "comment"), ("支付", "other"),
    ],
)  # fmt: skip
def test_event_types_are_known_by_their_words(value: str, ours: str) -> None:
    assert event_type_of(value) == ours


def test_known_types_are_those_with_a_name_of_ours() -> None:
    assert is_known_type("buy")
    assert not is_known_type("remove_from_cart")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CustomerID", ["customer", "id"]), ("visitorid", ["visitor", "id"]), ("user_session", ["user", "session"]),
        ("UnitPrice", ["unit", "price"]), ("transaction_timestamp", ["transaction", "timestamp"]), ("SKU", ["sku"]),
    ],
)  # fmt: skip
def test_names_fall_into_words_in_any_spelling(name: str, words: list[str]) -> None:
    assert words_of(name) == words


def test_what_speaks_against_outweighs_a_shared_word() -> None:
    assert name_score("user_id", "customer_id") > name_score("user_id", "customer_country")
    assert name_score("price", "unit_price") > 0 >= name_score("price", "coupon_disc")
    assert name_score("item_id", "product_category") < name_score("item_id", "product_id") - 8
    assert name_score("event_timestamp", "at") > name_score("event_timestamp", "ingested_at")
