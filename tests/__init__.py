"""The promises of cacheops_lite, one by one."""
