"""The URLs of the site."""

from django.contrib import admin
from django.urls import path
from training import show, train

urlpatterns = [path("", show), path("train/", train), path("admin/", admin.site.urls)]
