"""The routes of the cloud, one module for each resource. Runs in the connection's thread."""

from typing import Dict, Tuple, Type

from arkor_sync.emulator.http.routing import Handler, Route
from arkor_sync.emulator.routes.accounts import Accounts
from arkor_sync.emulator.routes.chat import Chat
from arkor_sync.emulator.routes.deployed import Deployed
from arkor_sync.emulator.routes.deployments import Deployments
from arkor_sync.emulator.routes.identity_provider import IdentityProvider
from arkor_sync.emulator.routes.jobs import Jobs
from arkor_sync.emulator.routes.projects import Projects
from arkor_sync.emulator.routes.resource import Backend, Resource

RESOURCES: Tuple[Type[Resource], ...] = (Accounts, Projects, Jobs, Chat, Deployments)
BESIDE_THE_API: Tuple[Type[Resource], ...] = (IdentityProvider, Deployed)

ROUTES = tuple(route for resource in RESOURCES for route in resource.ROUTES)
"""The routes of the cloud API."""

ROUTE_NAMES = frozenset(
    route.name for resource in (*RESOURCES, *BESIDE_THE_API) for route in resource.ROUTES
)
"""The names of these and of the routes beside the cloud API, as faults and records use them."""


def make_handlers(backend: Backend) -> Dict[Route, Handler]:
    """Return the handler of each route: the method of its resource that has the route's name."""
    return {
        route: getattr(resource(backend), route.name)
        for resource in (*RESOURCES, *BESIDE_THE_API)
        for route in resource.ROUTES
    }
