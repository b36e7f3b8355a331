"""Segment's e-commerce spec in Google's words: names of events, parameters and items."""

from __future__ import annotations

import re
from typing import Any

from . import limits

EVENT_NAMES = {
    "cart shared": "share",
    "cart viewed": "view_cart",
    "checkout started": "begin_checkout",
    "lead generated": "generate_lead",
    "logged in": "login",
    "order completed": "purchase",
    "order refunded": "refund",
    "payment info entered": "add_payment_info",
    "product added": "add_to_cart",
    "product added to wishlist": "add_to_wishlist",
    "product clicked": "select_item",
    "product list filtered": "view_item_list",
    "product list viewed": "view_item_list",
    "product removed": "remove_from_cart",
    "product shared": "share",
    "product viewed": "view_item",
    "products searched": "search",
    "promotion clicked": "select_promotion",
    "promotion viewed": "view_promotion",
    "signed in": "login",
    "signed up": "sign_up",
}
"""Segment's event names, in lower case with single spaces, and Google's recommended ones."""

COMMERCE = limits.words(
    """
    add_payment_info add_shipping_info add_to_cart add_to_wishlist begin_checkout purchase refund remove_from_cart
    select_item select_promotion view_cart view_item view_item_list view_promotion
    """
)
"""Google's events that carry items."""

_PARAMS = {
    "affiliation": "affiliation",
    "coupon": "coupon",
    "list_id": "item_list_id",
    "method": "method",
    "order_id": "transaction_id",
    "payment_method": "payment_type",
    "query": "search_term",
    "share_via": "method",
    "shipping_method": "shipping_tier",
    "transaction_id": "transaction_id",
}
_NUMBERS = {"shipping": "shipping", "tax": "tax"}
_VALUES = ("value", "revenue", "total", "subtotal")
"""Where the value of an event is looked for, in this order: Google's is without tax and shipping, as is revenue."""
_CURRENCY = re.compile(r"[A-Z]{3}")

_ITEM_TEXTS = {
    "affiliation": "affiliation",
    "brand": "item_brand",
    "coupon": "coupon",
    "creative": "creative_name",
    "item_id": "item_id",
    "item_name": "item_name",
    "list_id": "item_list_id",
    "name": "item_name",
    "product_id": "item_id",
    "promotion_id": "promotion_id",
    "promotion_name": "promotion_name",
    "sku": "item_id",
    "variant": "item_variant",
}
_ITEM_NUMBERS = {"discount": "discount", "position": "index", "price": "price", "quantity": "quantity"}
_ITEM_NAMES = frozenset(
    {*_ITEM_TEXTS.values(), *_ITEM_NUMBERS.values()}
    | limits.words("currency location_id creative_slot item_category")
    | limits.words("item_category2 item_category3 item_category4 item_category5")
)
"""Item parameters that Google knows."""
_ITEM_WORDS = frozenset([*_ITEM_TEXTS, *_ITEM_NUMBERS, "category", "item_category"])

_ONE_PRODUCT = frozenset(["add_to_cart", "add_to_wishlist", "remove_from_cart", "select_item", "view_item"])
"""Events that in Segment's spec describe their one product by their own properties."""
_PROMOTION = {
    "creative": "creative_name",
    "name": "promotion_name",
    "position": "creative_slot",
    "promotion_id": "promotion_id",
}


def google_name(event: str) -> str:
    """Google's name for a track event: the recommended one where there is one, else its own in snake_case."""
    known = EVENT_NAMES.get(re.sub(r"[\s_]+", " ", event).strip().lower())
    return known or limits.event_name(event)


def commerce_params(
    event: str, properties: dict[str, Any], *, currency: str | None, personal: bool
) -> tuple[dict[str, Any], set[str]]:
    """The parameters that Google knows for `event` (a name of Google's), and the properties that they were made of."""
    params: dict[str, Any] = {}
    used: set[str] = set()
    names = _PARAMS | (_PROMOTION if event.endswith("_promotion") else {})
    for key, value in properties.items():
        word = limits.param_name(key)
        if word in names:
            _add(params, used, key, names[word], limits.scalar(value, personal=personal))
        elif word in _NUMBERS:
            _add(params, used, key, _NUMBERS[word], limits.number(value))
    if event not in COMMERCE:
        return params, used
    products = properties.get("products")
    if not isinstance(products, list):
        products = []
    if not products and event in _ONE_PRODUCT:
        own = {key: value for key, value in properties.items() if limits.param_name(key) in _ITEM_WORDS}
        products = [own]
        used |= set(own)
    made = (item(product, personal=personal) for product in products if isinstance(product, dict))
    items = [one for one in made if one][: limits.MAX_ITEMS]
    if items:
        params["items"] = items
    code = _currency(properties.get("currency")) or currency
    value = next((found for key in _VALUES if (found := limits.number(properties.get(key))) is not None), None)
    if value is None and len(items) == 1 and "price" in items[0]:
        value = limits.number(round(items[0]["price"] * items[0].get("quantity", 1), 6))
    used |= {"products", "currency", *_VALUES}
    # Google ignores a value without a currency, and its validation refuses it.
    if code and value is not None:
        params |= {"currency": code, "value": value}
    elif code:
        params["currency"] = code
    return params, used


def _add(params: dict[str, Any], used: set[str], key: str, name: str, value: Any) -> None:
    if value is not None and name not in params:
        params[name] = value
        used.add(key)


def _currency(value: Any) -> str | None:
    """An ISO 4217 code, or None."""
    code = value.strip().upper() if isinstance(value, str) else ""
    return code if _CURRENCY.fullmatch(code) else None


def item(product: dict[str, Any], *, personal: bool) -> dict[str, Any] | None:
    """One of Segment's products as an item of Google's; None when it has neither an id nor a name."""
    made: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for key, value in product.items():
        word = limits.param_name(key)
        scalar = limits.scalar(value, personal=personal)
        if scalar is None:
            continue
        if word in _ITEM_TEXTS and _ITEM_TEXTS[word] not in made:
            made[_ITEM_TEXTS[word]] = limits.cut(str(scalar), limits.MAX_VALUE)
        elif word in _ITEM_NUMBERS:
            amount = limits.number(value)
            if amount is not None:
                made[_ITEM_NUMBERS[word]] = int(amount) if word in ("quantity", "position") else amount
        elif word in ("category", "item_category"):
            made |= _categories(value, personal=personal)
        elif word not in _ITEM_NAMES and len(custom) < limits.MAX_CUSTOM_ITEM_PARAMS:
            custom[word] = scalar
    if "item_id" not in made and "item_name" not in made:
        return None
    return custom | made


def _categories(value: Any, *, personal: bool) -> dict[str, str]:
    """`Clothes/Shirts` as `item_category` and `item_category2`, up to five levels."""
    if not isinstance(value, str):
        return {}
    levels = [limits.text_value(part, personal=personal) for part in value.split("/")]
    named = [level for level in levels if level][:5]
    return {f"item_category{number or ''}": level for number, level in zip((0, 2, 3, 4, 5), named, strict=False)}
