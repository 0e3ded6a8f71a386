import collections
from tests import test_differential as t
C = collections.Counter(); E=collections.Counter()
od = t.Machine.do
def do(self, write):
    n=len(self.log)
    try: return od(self, write)
    finally:
        if len(self.log)>n:
            bad=" failed: " in self.log[n]
            C[write.name, "bad" if bad else "ok"]+=1
            if bad: E[write.name, self.log[n].split(" failed: ")[1][:90]]+=1
t.Machine.do=do
orr=t.Machine.read
def test_stats(flush):
    seen=t.run_machine(flush, t.STEPS)
    print(len(seen), sum(seen))
    for k in sorted({a for a,b in C}): print(k, C[k,"ok"], C[k,"bad"])
    for k,v in E.most_common(40): print(v,k)
flush=t.flush
pytestmark=t.pytestmark
