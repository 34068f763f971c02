"""The classes of the admin theme (django-unfold), which has no types: mypy sees the Django classes they extend."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from django.contrib.admin import ChoicesFieldListFilter as ChoicesDropdownFilter
    from django.contrib.admin import FieldListFilter as FieldTextFilter
    from django.contrib.admin import FieldListFilter as SingleNumericFilter
    from django.contrib.admin import ModelAdmin as DjangoModelAdmin
    from django.contrib.admin import RelatedFieldListFilter
    from django.contrib.admin import SimpleListFilter as DropdownFilter
    from django.contrib.admin import TabularInline as DjangoTabularInline
    from django.contrib.admin.widgets import AdminIntegerFieldWidget as UnfoldAdminIntegerFieldWidget
    from django.contrib.admin.widgets import AdminTextInputWidget as UnfoldAdminTextInputWidget
    from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
    from django.forms import NullBooleanSelect as UnfoldAdminNullBooleanSelectWidget
    from django.forms import Select as UnfoldAdminSelectWidget

    ModelAdmin = DjangoModelAdmin[Any]
    TabularInline = DjangoTabularInline[Any, Any]

    class AutocompleteSelectFilter(RelatedFieldListFilter):
        """Has the chosen value, as `SimpleListFilter` does."""

        def value(self) -> str | None: ...  # noqa: D102
else:
    from unfold.admin import ModelAdmin, TabularInline
    from unfold.contrib.filters.admin import (
        AutocompleteSelectFilter,
        ChoicesDropdownFilter,
        DropdownFilter,
        FieldTextFilter,
        SingleNumericFilter,
    )
    from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
    from unfold.widgets import (
        UnfoldAdminIntegerFieldWidget,
        UnfoldAdminNullBooleanSelectWidget,
        UnfoldAdminSelectWidget,
        UnfoldAdminTextInputWidget,
    )

__all__ = [
    "AdminPasswordChangeForm",
    "AutocompleteSelectFilter",
    "ChoicesDropdownFilter",
    "DropdownFilter",
    "FieldTextFilter",
    "ModelAdmin",
    "SingleNumericFilter",
    "TabularInline",
    "UnfoldAdminIntegerFieldWidget",
    "UnfoldAdminNullBooleanSelectWidget",
    "UnfoldAdminSelectWidget",
    "UnfoldAdminTextInputWidget",
    "UserChangeForm",
    "UserCreationForm",
]
