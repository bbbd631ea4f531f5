"""What owners call things: the words in column names and in event types, and which of our names they mean."""

from __future__ import annotations

import re

from segmenter_plugin.columns import PURCHASE, RETURN, Columns

#: Our column -> word in the owner's name -> how strongly the word speaks for it (1 to 6).
ROLE_WORDS: dict[str, dict[str, int]] = {
    Columns.event_timestamp: {
        "timestamp": 6, "datetime": 5, "time": 5, "ts": 5, "at": 5, "date": 4, "day": 3, "when": 3, "created": 3,
        "occurred": 6, "micros": 3,
    },
    Columns.event_type: {
        "event": 5, "type": 3, "action": 5, "behavior": 5, "behaviour": 5, "kind": 5, "activity": 4, "interaction": 5,
        "operation": 3, "verb": 4,
    },
    Columns.session_id: {"session": 6, "visit": 4, "ssid": 4},
    Columns.user_id: {
        "user": 6, "visitor": 5, "customer": 5, "cust": 5, "client": 5, "household": 5, "hh": 4, "member": 5,
        "shopper": 5, "buyer": 5, "account": 4, "person": 5, "uid": 5, "cid": 3, "guest": 3, "subscriber": 5,
        "profile": 3, "consumer": 5, "cookie": 2, "device": 2, "reader": 4, "viewer": 4, "passenger": 4,
    },
    Columns.order_id: {
        "order": 6, "basket": 5, "invoice": 5, "transaction": 4, "receipt": 4, "ticket": 4, "checkout": 4, "bill": 4,
        "booking": 4, "purchase": 3, "trip": 3,
    },
    Columns.event_id: {
        "event": 4, "uuid": 5, "hit": 3, "row": 3, "log": 3, "record": 3, "message": 3, "line": 2, "id": 1, "guid": 4,
    },
    Columns.item_id: {
        "item": 6, "product": 6, "sku": 6, "article": 5, "stock": 5, "asin": 5, "aid": 4, "prod": 4, "isbn": 5,
        "good": 4, "goods": 4, "material": 3, "movie": 5, "track": 4, "song": 5, "content": 4, "offer": 3,
        "listing": 4, "ean": 4, "upc": 3, "page": 2, "url": 2,
    },
    Columns.price: {
        "price": 6, "amount": 5, "sales": 5, "revenue": 5, "gmv": 5, "paid": 4, "spend": 4, "value": 3, "total": 3,
        "cost": 2, "money": 3,
    },
    Columns.quantity: {"quantity": 6, "qty": 6, "units": 5, "pieces": 5, "count": 2, "number": 1},
    Columns.category: {
        "category": 6, "cat": 5, "department": 4, "dept": 4, "genre": 5, "aisle": 4, "taxonomy": 4, "class": 3,
        "section": 3, "group": 2, "topic": 3, "shelf": 4, "subcategory": 4, "commodity": 4,
    },
    Columns.brand: {"brand": 6, "maker": 5, "manufacturer": 4, "vendor": 4, "supplier": 4, "seller": 3, "label": 2},
    Columns.text: {"description": 6, "title": 5, "query": 5, "search": 4, "keyword": 4, "text": 4, "name": 3},
}  # fmt: skip

#: Our column -> words that speak against it by 4.
AGAINST_WORDS: dict[str, set[str]] = {
    Columns.event_timestamp: {
        "ingested", "received", "updated", "modified", "processed", "loaded", "birth", "expiry", "end", "delivery",
        "shipped", "ingest", "load", "zone", "arrived", "inserted", "first", "last", "previous", "duration",
    },
    Columns.event_type: {"id", "time", "date", "value", "campaign", "product", "item", "device", "payment", "user"},
    Columns.session_id: {"count", "duration", "length", "start", "end", "number"},
    Columns.user_id: {
        "session", "agent", "name", "type", "age", "country", "city", "segment", "group", "gender", "state", "zip",
        "email", "agreement", "since",
    },
    Columns.order_id: {"value", "price", "type", "status", "discount", "amount", "date", "total", "count", "channel"},
    Columns.event_id: {"user", "item", "product", "type", "name", "value"},
    Columns.item_id: {
        "category", "type", "name", "description", "price", "quantity", "count", "brand", "department", "title", "size",
        "value", "coupon", "group", "class",
    },
    Columns.price: {
        "disc", "discount", "tax", "shipping", "coupon", "margin", "old", "original", "list", "id", "cost", "loyalty",
        "match", "event",
    },
    Columns.quantity: {"id", "page", "session", "order", "phone"},
    Columns.category: {"user", "customer", "event", "age", "payment"},
    Columns.brand: {"device", "phone"},
    Columns.text: {"user", "customer", "event", "category", "brand", "file", "store", "city", "country", "campaign"},
}  # fmt: skip

_ID_WORDS = {"id", "no", "nr", "code", "key", "number", "num", "pseudo"}
ID_ROLES = (Columns.user_id, Columns.item_id, Columns.order_id, Columns.session_id, Columns.event_id)

_TYPE_WORDS: tuple[tuple[str, set[str]], ...] = (
    (RETURN, {"return", "returned", "returns", "refund", "refunded", "sendback"}),
    (
        PURCHASE,
        {
            "buy", "bought", "purchase", "purchased", "purchases", "order", "ordered", "transaction", "sale", "sold",
            "conversion", "paid", "payment",
        },
    ),
    ("favourite", {"fav", "favorite", "favourite", "wish", "wishlist", "like", "liked", "bookmark"}),
    ("cart", {"cart", "basket", "addtocart", "addtobasket", "add", "added"}),
    (
        "view",
        {
            "view", "viewed", "views", "pv", "pageview", "click", "clicked", "clicks", "detail", "impression", "browse",
            "visit", "page", "look",
        },
    ),
)  # fmt: skip
#: A type with one of these words undoes or only begins what its other words say, and keeps a name of its own.
_UNDOING = {"remove", "removed", "delete", "cancel", "cancelled", "canceled", "begin", "start", "abandon", "failed"}
_ROLE_VOCABULARY = {word for words in ROLE_WORDS.values() for word in words}
_SUFFIXES = ("id", "code", "no", "key", "date", "time", "timestamp", "type", "price", "name", "value", "number")


def words_of(name: str) -> list[str]:
    """The words of a name in any spelling, in lower case.

    Example:
        >>> words_of("CustomerID"), words_of("add_to_cart"), words_of("visitorid")
        (['customer', 'id'], ['add', 'to', 'cart'], ['visitor', 'id'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    return [part for word in words for part in _split_compound(word)]


def _split_compound(word: str) -> list[str]:
    if word in _ROLE_VOCABULARY:
        return [word]
    for suffix in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem != word and stem in _ROLE_VOCABULARY:
            return [stem, suffix]
    return [word]


def name_score(role: str, name: str) -> int:
    """How strongly an owner's column name speaks for one of our columns; 0 or less: not at all."""
    words = words_of(name)
    strengths = [ROLE_WORDS[role].get(word, 0) for word in words]
    if not any(strengths):
        return 0
    score = 2 * max(strengths) + sum(strength > 0 for strength in strengths)
    if role in ID_ROLES:
        score += 2 * any(word in _ID_WORDS for word in words)
    return score - 8 * sum(word in AGAINST_WORDS[role] for word in words)


def event_type_of(value: str) -> str:
    """Our name of an owner's event type; what is not known keeps its own name, in snake case.

    Example:
        >>> [event_type_of(value) for value in ("pv", "Add to Cart", "purchase_line", "remove_from_cart")]
        ['view', 'cart', 'purchase', 'remove_from_cart']
    """
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", value).lower())
    own = "_".join(words) or "other"
    if _UNDOING & set(words):
        return own
    for name, known in _TYPE_WORDS[-1:] if words and words[0] in _TYPE_WORDS[-1][1] else _TYPE_WORDS:
        if known & set(words):
            return name
    return own


def is_known_type(value: str) -> bool:
    """Whether a value is a word for something that users do in shops."""
    return event_type_of(value) in {name for name, _ in _TYPE_WORDS}
