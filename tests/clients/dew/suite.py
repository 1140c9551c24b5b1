"""What all groups share: clients of the official SDK, the check of every answer's types, and the record of what was
proved of each operation."""

import inspect
import json
import re

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.http.http_handler import HttpHandler
from huaweicloudsdkkms import v2

SCALARS = {"str": str, "int": int, "bool": bool, "object": dict}
UNKNOWN_KEY = "00000000-0000-4000-8000-000000000000"
"""The id of no key."""
ENTERPRISE_PROJECT = "a8bd5ab6-1c4f-4a64-9c52-2b3f2ac7d3ef"
"""The id of an enterprise project, of which there are none here."""


def operations():
    """Every operation that the SDK has: the name, and the method that calls it."""
    methods = [name[1 : -len("_http_info")] for name, _ in inspect.getmembers(v2.KmsClient) if name.endswith("_http_info")]
    return {"".join(part.capitalize() for part in method.split("_")): method for method in methods}


def build(kind, value):
    """A value as the model of the SDK that this kind names."""
    item = re.fullmatch(r"list\[(.*)\]", kind)
    if item:
        return [build(item[1], one) for one in value]
    model = getattr(v2, kind, None)
    if model is None or not isinstance(value, dict):
        return value
    return model(**{name: build(model.openapi_types[name], one) for name, one in value.items()})


def check_type(kind, value, place):
    """That a value of an answer has the type that the SDK's model names, as it came over the wire."""
    item = re.fullmatch(r"list\[(.*)\]", kind)
    if item:
        assert isinstance(value, list), f"{place} is {value!r}, no list"
        for one in value:
            check_type(item[1], one, f"{place}[]")
    elif kind in SCALARS:
        assert type(value) is SCALARS[kind], f"{place} is {value!r}, not of the type {kind}"
    else:
        check_members(getattr(v2, kind), value, place)


def check_members(model, value, place):
    assert isinstance(value, dict), f"{place} is {value!r}, no object"
    names = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for name, one in value.items():
        assert name in names, f"{place}.{name} is no field of DEW"
        check_type(names[name], one, f"{place}.{name}")


class Suite:
    """What was proved so far, and who calls."""

    def __init__(self, description):
        self.description = description
        self.operations = operations()
        self.record = {
            name: {"call": "", "proved": [], "refusals": set(), "differences": [], "not_offered": None}
            for name in self.operations
        }
        account, other = description["accounts"][:2]
        self.account, self.other_account = account, other
        self.admin = self.client(account, "admin")
        self.elsewhere = self.client(account, "admin", project=1)
        self.other_admin = self.client(other, "admin")
        self.nobody = self.client(account, "nobody")

    def user(self, account, name):
        return next(user for user in account["users"] if user["name"] == name)

    def client(self, account, name, project=0, secret=None, of=None):
        """A client for a user, and for one of the projects of an account: its own, unless another is given."""
        user = self.user(account, name)
        return Client(self, user["ak"], secret or user["sk"], (of or account)["projects"][project]["project_id"])

    def proves(self, operation, *what):
        """Notes what the checks before this line have shown of an operation."""
        assert self.record[operation]["call"], f"{operation} was not called"
        proved = self.record[operation]["proved"]
        proved += [one for one in what if one not in proved]

    def differs(self, operation, how, why):
        """Notes a departure from DEW that the checks before this line have shown."""
        assert self.record[operation]["call"], f"{operation} was not called"
        difference = {"how": how, "why": why}
        if difference not in self.record[operation]["differences"]:
            self.record[operation]["differences"].append(difference)

    def table(self):
        """The record, if it is complete."""
        for name, record in self.record.items():
            assert record["call"], f"{name} was not called"
            offered = record["not_offered"] is None
            assert offered == bool(record["proved"]), f"{name}: nothing was proved"
        return {name: {**record, "refusals": sorted(record["refusals"])} for name, record in self.record.items()}


class Client:
    """The SDK's client for one user and project."""

    def __init__(self, suite, access_key, secret, project):
        self.suite = suite
        self.answered = None
        config = HttpConfig.get_default_config()
        config.ssl_ca_cert = suite.description["ca_cert"]
        builder = v2.KmsClient.new_builder()
        self.sdk = (
            builder.with_credentials(BasicCredentials(access_key, secret, project))
            .with_http_config(config)
            .with_http_handler(HttpHandler().add_response_handler(self.see))
            .with_endpoint(suite.description["dew"]["endpoint"])
            .build()
        )

    def see(self, response, **_):
        """Keeps the answer as it came."""
        self.answered = response

    def request(self, operation, fields):
        request = getattr(v2, f"{operation}Request")
        kind = request.openapi_types.get("body")
        outside = {name: value for name, value in fields.items() if name in request.openapi_types and name != "body"}
        # A field of a path may be one of the body, too.
        body = getattr(v2, kind).openapi_types if kind else {}
        inside = {name: value for name, value in fields.items() if name in body}
        unknown = fields.keys() - outside.keys() - inside.keys()
        assert not unknown, f"{operation} has no fields {unknown}"
        if kind and inside:
            outside["body"] = build(kind, inside)
        return request(**outside)

    def send(self, operation, fields):
        method = self.suite.operations[operation]
        request = self.request(operation, fields)
        described = getattr(v2.KmsClient, f"_{method}_http_info")(request)
        self.suite.record[operation]["call"] = f"{described['method']} {described['resource_path']}"
        self.answered = None
        try:
            return getattr(self.sdk, method)(request)
        finally:
            assert self.answered is not None, f"{operation} was not answered"
            assert self.answered.headers.get("X-Request-Id"), f"{operation}: an answer without X-Request-Id"

    def call(self, operation, **fields):
        """A call that succeeds; answers the SDK's response."""
        try:
            response = self.send(operation, fields)
        except ServiceResponseException as error:
            raise AssertionError(f"{operation}: {error}") from error
        raw = json.loads(self.answered.content or b"null")
        model = getattr(v2, f"{operation}Response")
        if raw is None:
            assert not model.openapi_types, f"{operation}: an answer without fields"
        elif operation == "ListAliases":
            # DEW answers one object, which the SDK shows as a list of one.
            check_type(model.openapi_types["body"], [raw], operation)
        else:
            check_members(model, raw, operation)
        return response

    def status(self):
        """The status of the last answer."""
        return self.answered.status_code

    def refused(self, operation, code, status=400, **fields):
        """A call that is refused with this code; answers the text."""
        try:
            self.send(operation, fields)
        except ServiceResponseException as error:
            told = (error.error_code, error.status_code)
            assert told == (code, status), f"{operation}: {told} {error.error_msg}, not {code}"
            assert error.request_id == self.answered.headers["X-Request-Id"]
            self.suite.record[operation]["refusals"].add(code)
            return error.error_msg
        raise AssertionError(f"{operation} was not refused with {code}")

    def pages(self, operation, items, page, **fields):
        """Everything that a list holds, walked to its end by the markers that it answers; at most two at a time."""
        found, marker = [], None
        while True:
            more = {"marker": marker} if marker else {}
            response = page(self.call(operation, limit="2", **fields, **more))
            part = getattr(response, items)
            assert len(part) <= 2, f"{operation} answers more than was asked for"
            found += part
            info = getattr(response, "page_info", response)
            marker = info.next_marker
            if info is response:
                assert response.truncated == ("true" if marker else "false"), operation
            else:
                assert info.current_count == len(part), operation
            if not marker:
                return found

    def not_offered(self, operation, instead, **fields):
        """A call that this service refuses whatever it says."""
        self.refused(operation, "APIGW.0101", 404, **fields)
        self.suite.record[operation]["not_offered"] = instead
