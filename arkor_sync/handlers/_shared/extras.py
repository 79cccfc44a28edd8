"""Optional libraries, for the handlers: the function of `_common/extras.py`. Pure."""

from arkor_sync._common.extras import import_extra as import_extra
