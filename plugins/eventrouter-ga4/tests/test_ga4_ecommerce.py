"""Segment's e-commerce spec in Google's words."""

import pytest

from eventrouter_ga4.ecommerce import commerce_params, google_name, item


def params(event, properties, currency=None):
    return commerce_params(google_name(event), properties, currency=currency, personal=False)[0]


@pytest.mark.parametrize(
    ("segment", "google"),
    [
        ("Order Completed", "purchase"),
        ("order_completed", "purchase"),
        ("Product Added", "add_to_cart"),
        ("Product Viewed", "view_item"),
        ("Products Searched", "search"),
        ("Signed Up", "sign_up"),
        ("Checkout  Started", "begin_checkout"),
        ("Article Read", "article_read"),
    ],
)
def test_events_have_googles_recommended_names(segment, google):
    assert google_name(segment) == google


def test_an_order_is_a_purchase_with_items():
    order = {
        "order_id": "o1",
        "revenue": 25,
        "total": 32.5,
        "tax": "2.5",
        "shipping": 5,
        "currency": "eur",
        "coupon": "SPRING",
        "products": [
            {
                "product_id": "p1",
                "name": "Shirt",
                "price": 10,
                "quantity": 2,
                "category": "Clothes/Tops",
                "size": "M",
            },
            {"sku": "s2", "price": "5.00", "brand": "Acme", "variant": "red", "position": 2},
            {"price": 1},
            "not a product",
        ],
    }
    assert params("Order Completed", order) == {
        "transaction_id": "o1",
        "tax": 2.5,
        "shipping": 5,
        "coupon": "SPRING",
        "currency": "EUR",
        "value": 25,
        "items": [
            {
                "size": "M",
                "item_id": "p1",
                "item_name": "Shirt",
                "price": 10,
                "quantity": 2,
                "item_category": "Clothes",
                "item_category2": "Tops",
            },
            {"item_id": "s2", "price": 5, "item_brand": "Acme", "item_variant": "red", "index": 2},
        ],
    }


def test_a_product_event_describes_one_item_and_its_worth():
    product = {"product_id": "p1", "name": "Shirt", "price": 9.99, "quantity": 3, "currency": "USD", "cart_id": "c"}
    made, used = commerce_params("add_to_cart", product, currency=None, personal=False)
    assert made == {
        "items": [{"item_id": "p1", "item_name": "Shirt", "price": 9.99, "quantity": 3}],
        "currency": "USD",
        "value": 29.97,
    }
    assert "cart_id" not in used


def test_a_value_without_a_currency_is_left_out_unless_the_options_name_one():
    assert params("Order Completed", {"total": 5}) == {}
    assert params("Order Completed", {"total": 5}, currency="CHF") == {"currency": "CHF", "value": 5}


def test_a_promotion_has_words_of_its_own():
    promotion = {"promotion_id": "p", "creative": "banner", "name": "Summer", "position": "top"}
    assert params("Promotion Clicked", promotion) == {
        "promotion_id": "p",
        "creative_name": "banner",
        "promotion_name": "Summer",
        "creative_slot": "top",
    }


def test_a_search_has_its_term_and_a_sign_up_its_method():
    assert params("Products Searched", {"query": "boots"}) == {"search_term": "boots"}
    assert params("Signed Up", {"method": "Google"}) == {"method": "Google"}


def test_an_item_keeps_ten_parameters_of_ones_own():
    made = item({"product_id": 1, **{f"extra{n}": n for n in range(20)}}, personal=False)
    assert made is not None
    assert (made["item_id"], len(made)) == ("1", 11)
