"""Which of Django's test packages are run: all that exercise the ORM, and some that live on it."""

from __future__ import annotations

#: The ORM itself.
ORM = """
    aggregation aggregation_regress annotations async backends base basic bulk_create composite_pk
    constraints contenttypes_tests custom_columns custom_lookups custom_managers custom_methods
    custom_pk datatypes dates datetimes db_functions db_typecasts defer defer_regress delete
    delete_regress distinct_on_fields empty empty_models expressions expressions_case
    expressions_window extra_regress field_defaults field_subclassing filtered_relation fixtures
    fixtures_model_package fixtures_regress force_insert_update foreign_object from_db_value
    generic_relations generic_relations_regress get_earliest_or_latest get_object_or_404
    get_or_create known_related_objects lookup m2m_and_m2o m2m_intermediary m2m_multiple
    m2m_recursive m2m_regress m2m_signals m2m_through m2m_through_regress m2o_recursive
    managers_regress many_to_many many_to_one many_to_one_null max_lengths migrate_signals
    migration_test_data_persistence migrations migrations2 model_enums model_fields model_forms
    model_formsets model_formsets_regress model_inheritance model_inheritance_regress model_meta
    model_options model_package model_regress model_utils multiple_database mutually_referential
    nested_foreign_keys null_fk null_fk_ordering null_queries one_to_one or_lookups
    order_with_respect_to ordering pagination prefetch_related properties proxy_model_inheritance
    proxy_models queries queryset_pickle raw_query reserved_names reverse_lookup save_delete_hooks
    schema select_for_update select_related select_related_onetoone select_related_regress
    serializers signals str string_lookup swappable_models timezones transaction_hooks transactions
    unmanaged_models update update_only_fields validation xor_lookups
""".split()

#: What Django builds on the ORM.
USERS = """
    admin_changelist admin_filters admin_inlines admin_utils admin_views auth_tests flatpages_tests
    generic_inline_admin generic_views inline_formsets modeladmin redirects_tests sessions_tests
    sitemaps_tests sites_framework sites_tests syndication_tests test_client test_client_regress
    test_utils view_tests
""".split()

#: Under four minutes in commit mode: every kind of query, write and relation at least once.
QUICK = """
    aggregation aggregation_regress annotations basic bulk_create composite_pk custom_lookups
    custom_pk dates db_functions defer delete distinct_on_fields expressions expressions_case
    expressions_window filtered_relation foreign_object from_db_value generic_relations
    get_or_create known_related_objects lookup m2m_through m2m_recursive many_to_many many_to_one
    model_inheritance null_queries one_to_one or_lookups ordering prefetch_related proxy_models
    queries raw_query select_related select_related_onetoone transactions update xor_lookups
""".split()
