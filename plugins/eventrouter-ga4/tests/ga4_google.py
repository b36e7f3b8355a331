"""Google's Measurement Protocol on loopback: it applies the published rules itself, independently of the plugin's.

`/mp/collect` answers 204 to whatever it gets, as Google does; what breaks a rule is noted in `problems`.
`/debug/mp/collect` answers with `validationMessages`.
"""

import json
import re
import time

from werkzeug import Request, Response


def words(text: str) -> list[str]:
    return text.split()


NAME = re.compile(r"[^\W\d_]\w*")  # starts with a letter, of any script
PREFIXES = ("_", "firebase_", "ga_", "google_", "gtag.")
# "Measurement Protocol reference", reserved names; "Event naming rules", web.
EVENTS = words(
    """
    ad_activeview ad_click ad_exposure ad_query ad_reward adunit_exposure app_background app_clear_data
    app_exception app_remove app_store_refund app_store_subscription_cancel app_store_subscription_convert
    app_store_subscription_renew app_update app_upgrade dynamic_link_app_open dynamic_link_app_update
    dynamic_link_first_open error firebase_campaign firebase_in_app_message_action firebase_in_app_message_dismiss
    firebase_in_app_message_impression first_open first_visit in_app_purchase notification_dismiss
    notification_foreground notification_open notification_receive notification_send os_update session_start
    user_engagement click file_download form_start form_submit scroll video_progress video_start view_complete
    view_search_results
    """
)
USER_PROPERTIES = words("first_open_time first_visit_time last_deep_link_referrer user_id first_open_after_install")
LONG = {"page_location": 1000, "page_referrer": 420, "page_title": 300}
ITEM_PARAMS = words(
    """
    item_id item_name affiliation coupon currency discount index item_brand item_category item_category2
    item_category3 item_category4 item_category5 item_list_id item_list_name item_variant location_id price quantity
    promotion_id promotion_name creative_name creative_slot
    """
)
ITEM_EVENTS = words(
    """
    add_payment_info add_to_cart add_to_wishlist begin_checkout purchase refund remove_from_cart select_item
    view_cart view_item view_item_list select_promotion view_promotion
    """
)


def units(value) -> int:
    return len(str(value).encode("utf-16-le")) // 2


class Google:
    """`bodies` and `debug_bodies` are what came; `refuse` (event names) makes validation object.

    `statuses` (by event name) refuses each request in which that event is.
    """

    def __init__(self, server):
        self.url = server.url_for("").rstrip("/")
        self.bodies, self.debug_bodies, self.problems, self.queries = [], [], [], []
        self.refuse: set[str] = set()
        self.statuses: dict[str, int] = {}
        self.status, self.headers = 204, {}
        server.expect_request("/mp/collect", method="POST").respond_with_handler(self.collect)
        server.expect_request("/debug/mp/collect", method="POST").respond_with_handler(self.debug)

    def collect(self, request: Request) -> Response:
        if self.status != 204:
            return Response("busy", self.status, self.headers)
        for event in json.loads(request.data)["events"]:
            if event["name"] in self.statuses:
                return Response(event["name"], self.statuses[event["name"]])
        self.bodies.append(json.loads(request.data))
        self.queries.append(request.args.to_dict())
        self.problems += self.check(request)
        return Response(status=204)

    def debug(self, request: Request) -> Response:
        body = json.loads(request.data)
        self.debug_bodies.append(body)
        found = [{"description": text, "validationCode": "VALUE_INVALID"} for text in self.check(request)]
        for index, event in enumerate(body["events"]):
            if event["name"] in self.refuse:
                text = f"Event at index: [{index}] has invalid name [{event['name']}]."
                found.append({"fieldPath": "events", "description": text, "validationCode": "NAME_INVALID"})
        return Response(json.dumps({"validationMessages": found}), content_type="application/json")

    @property
    def events(self):
        return [event for body in self.bodies for event in body["events"]]

    def check(self, request: Request) -> list[str]:
        """The rules of a request."""
        body = json.loads(request.data)
        found = []
        if not request.args.get("measurement_id") or not request.args.get("api_secret"):
            found.append("measurement_id and api_secret are required")
        if len(request.data) >= 130_000:
            found.append(f"body of {len(request.data)} bytes")
        if not isinstance(body.get("client_id"), str) or not body["client_id"]:
            found.append("client_id is required")
        if "user_id" in body and not 0 < units(body["user_id"]) <= 256:
            found.append("user_id is too long")
        for name, value in body.get("consent", {}).items():
            if name not in ("ad_user_data", "ad_personalization") or value not in ("GRANTED", "DENIED"):
                found.append(f"consent {name} {value}")
        properties = body.get("user_properties", {})
        if len(properties) > 25:
            found.append("more than 25 user properties")
        for name, value in properties.items():
            found += self.name("user property", name, 24, USER_PROPERTIES)
            if set(value) != {"value"} or units(value["value"]) > 36:
                found.append(f"user property {name} = {value}")
        if not 1 <= len(body["events"]) <= 25:
            found.append(f"{len(body['events'])} events")
        for event in body["events"]:
            found += self.event(event)
        return found

    def event(self, event) -> list[str]:
        found = self.name("event", event["name"], 40, EVENTS)
        if set(event) - {"name", "params", "timestamp_micros"}:
            found.append(f"event has {sorted(event)}")
        params = event["params"]
        if len(params) > 25:
            found.append(f"{len(params)} parameters")
        for name, value in params.items():
            found += self.name("parameter", name, 40, ["firebase_conversion"])
            if name == "items":
                found += self.items(value)
            elif not isinstance(value, str | int | float) or isinstance(value, bool):
                found.append(f"parameter {name} is {type(value).__name__}")
            elif units(value) > LONG.get(name, 100):
                found.append(f"parameter {name} is too long: {value}")
        if not re.fullmatch(r"[0-9]+", params.get("session_id", "1")):
            found.append(f"session_id {params['session_id']}")
        if (
            event["name"] in ITEM_EVENTS
            and "value" in params
            and not re.fullmatch("[A-Z]{3}", params.get("currency", ""))
        ):
            found.append("value without currency")
        if event["name"] == "purchase" and not params.get("transaction_id"):
            found.append("purchase without transaction_id")
        if "timestamp_micros" in event:
            age = time.time() - event["timestamp_micros"] / 1e6
            if not -1 <= age <= 72 * 3600 + 60:
                found.append(f"timestamp {age} s ago")
        return found

    def items(self, items) -> list[str]:
        found = [] if isinstance(items, list) and 0 < len(items) <= 200 else ["items"]
        for item in items:
            if not item.get("item_id") and not item.get("item_name"):
                found.append("an item without id and name")
            if len([name for name in item if name not in ITEM_PARAMS]) > 10:
                found.append("more than 10 custom item parameters")
            for name, value in item.items():
                found += self.name("item parameter", name, 40, [])
                number = name in ("price", "quantity", "index", "discount")
                if isinstance(value, bool) or not isinstance(value, int | float if number else str | int | float):
                    found.append(f"item parameter {name} is {value!r}")
                elif units(value) > 100:
                    found.append(f"item parameter {name} is too long")
        return found

    def name(self, what, name, limit, reserved) -> list[str]:
        good = NAME.fullmatch(name) and units(name) <= limit and name not in reserved and not name.startswith(PREFIXES)
        return [] if good else [f"{what} name {name!r}"]
