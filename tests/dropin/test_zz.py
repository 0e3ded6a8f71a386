import pytest
from tests import models as m
from tests.acceptance.tools import listening
from cacheops_lite.signals import cache_invalidated
pytestmark = pytest.mark.django_db(transaction=True)
def test_x():
    tag = m.Tag.objects.create(name="red")
    with listening(cache_invalidated) as heard: tag.delete()
    print(heard)
    from cacheops_lite import invalidate_obj
    tag = m.Tag.objects.create(name="red")
    list(m.Tag.objects.filter(name="x").cache())
    with listening(cache_invalidated) as heard: tag.delete()
    print(heard)
    t = m.Tag.objects.create(name="red")
    with listening(cache_invalidated) as heard:
        t.group="a"; t.save()
    print(heard)
    assert 0
