-- Adds what has newly finished to the statistics. $1: how far behind the clock to stay, in ms.
select f.folded, f.more, f.later
from orchestratum.fold_history($1::int) f
