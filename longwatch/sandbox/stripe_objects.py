"""Stripe's objects: made from form parameters, changed, and listed by page. Plain values in and out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Params = dict[str, Any]

PAGE_DEFAULT = 10
PAGE_MAX = 100
DECLINED_SOURCES = ("tok_chargeDeclined", "pm_card_chargeDeclined")


class Refused(Exception):
    """A request that Stripe answers with an error. The fields are those of its error object."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", code: str = "", param: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param


def declined() -> Refused:
    return Refused(402, "Your card was declined.", kind="card_error", code="card_declined")


def nested(pairs: Iterable[tuple[str, str]]) -> Params:
    """Form fields with brackets as a tree: `metadata[order]=1` is {"metadata": {"order": "1"}}; `a[]` and `a[0]` are keys."""
    tree: Params = {}
    for name, value in pairs:
        *path, last = name.replace("]", "").split("[")
        node = tree
        for step in path:
            child: Params | str = node.setdefault(step, {})
            if isinstance(child, str):
                raise Refused(400, f"Invalid {step}: a value and a hash at once.", param=step)
            node = child
        node[last or str(len(node))] = value
    return tree


def charge(params: Params) -> Params:
    """A charge; status "failed" when its card is to be declined."""
    amount, currency = _amount(params)
    declined = params.get("source") in DECLINED_SOURCES
    if "source" not in params and "customer" not in params:
        raise Refused(400, "Must provide source or customer.", code="parameter_missing")
    return {
        "object": "charge",
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "captured": True,
        "created": 0,
        "currency": currency,
        "customer": params.get("customer"),
        "description": params.get("description"),
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": _metadata(params),
        "paid": True,
        "payment_intent": None,
        "refunded": False,
        "status": "failed" if declined else "succeeded",
    }


def customer(params: Params) -> Params:
    return {
        "object": "customer",
        "address": params.get("address"),
        "balance": 0,
        "created": 0,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "livemode": False,
        "metadata": _metadata(params),
        "description": params.get("description"),
        "email": params.get("email"),
        "name": params.get("name"),
        "phone": params.get("phone"),
    }


def payment_intent(params: Params) -> Params:
    """A payment intent: paid at once with confirm=true and a payment method, else waiting for them."""
    amount, currency = _amount(params)
    method = params.get("payment_method")
    intent: Params = {
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "created": 0,
        "currency": currency,
        "customer": params.get("customer"),
        "description": params.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": _metadata(params),
        "next_action": None,
        "payment_method": method,
        "payment_method_types": ["card"],
        "status": "requires_confirmation" if method else "requires_payment_method",
    }
    if params.get("confirm") != "true":
        return intent
    return {**intent, "status": "failed"} if method in DECLINED_SOURCES else confirmed(intent, params)


MAKERS: Mapping[str, Callable[[Params], Params]] = {
    "charges": charge,
    "customers": customer,
    "payment_intents": payment_intent,
}


def confirmed(intent: Params, params: Params) -> Params:
    """The intent, paid. Raises Refused when it has no method, a declined one, or was paid before."""
    method = params.get("payment_method", intent["payment_method"])
    if intent["status"] == "succeeded":
        message = "You cannot confirm this PaymentIntent because it has already succeeded."
        raise Refused(400, message, code="payment_intent_unexpected_state")
    if method is None:
        raise Refused(
            400, "You cannot confirm this PaymentIntent: it is missing a payment method.", param="payment_method"
        )
    if method in DECLINED_SOURCES:
        raise declined()
    return {**intent, "payment_method": method, "status": "succeeded", "amount_received": intent["amount"]}


def updated(target: Params, params: Params) -> Params:
    """Descriptions and metadata can be changed; an empty value removes a metadata field."""
    metadata = {**target["metadata"], **_metadata(params)}
    texts = [name for name in ("description", "email", "name", "phone") if name in params]
    return {
        **target,
        **{name: params[name] for name in texts},
        "metadata": {name: value for name, value in metadata.items() if value != ""},
    }


def page(resource: str, objects: list[Params], query: Mapping[str, str]) -> Params:
    """One page, newest first. objects: oldest first."""
    listed = [value for value in reversed(objects) if query.get("customer") in (None, value.get("customer"))]
    identities = [value["id"] for value in listed]
    size = _size(query)
    if "ending_before" in query:
        end = _place(identities, query["ending_before"])
        chosen, more = listed[max(0, end - size) : end], end > size
    else:
        begin = _place(identities, query["starting_after"]) + 1 if "starting_after" in query else 0
        chosen, more = listed[begin : begin + size], begin + size < len(listed)
    return {"object": "list", "url": f"/v1/{resource}", "has_more": more, "data": chosen}


def _size(query: Mapping[str, str]) -> int:
    size = query.get("limit", str(PAGE_DEFAULT))
    if not size.isdecimal() or not 1 <= int(size) <= PAGE_MAX:
        raise Refused(400, f"Invalid limit: {size}. It must be between 1 and {PAGE_MAX}.", param="limit")
    return int(size)


def _place(identities: list[str], identity: str) -> int:
    if identity not in identities:
        raise Refused(400, f"No such object: '{identity}'", code="resource_missing", param="starting_after")
    return identities.index(identity)


def _amount(params: Params) -> tuple[int, str]:
    """Amount in the currency's smallest unit, and the currency."""
    for name in ("amount", "currency"):
        if name not in params:
            raise Refused(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    amount, currency = params["amount"], params["currency"]
    if not isinstance(amount, str) or not amount.isdecimal() or int(amount) < 1:
        raise Refused(400, f"Invalid integer: {amount}", code="parameter_invalid_integer", param="amount")
    if not isinstance(currency, str) or len(currency) != 3 or not currency.isalpha():
        raise Refused(400, f"Invalid currency: {currency}", param="currency")
    return int(amount), currency.lower()


def _metadata(params: Params) -> dict[str, str]:
    given: Params | str = params.get("metadata") or {}
    if isinstance(given, str):
        raise Refused(400, "Invalid hash: metadata", param="metadata")
    return {name: str(value) for name, value in given.items()}
