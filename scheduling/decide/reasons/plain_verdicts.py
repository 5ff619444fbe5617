"""Chinese texts of verifications, which `scheduling/verification` stores in English."""

from __future__ import annotations

#: A difference ends with the tenure it lies in: `epoch 4 on node-2, r1 by migrate …`. Values that a
#: node stored may imitate a part of the sentence. Atomic groups, `(?>…)`, keep the search linear:
#: they match at the first place that fits, and no other is tried.
VERDICTS = (
    ("different at seq #: (.+)", r"在 seq \1 处有差异：\2"),
    ("history differs: (.+)", r"历史不一致：\1"),
    ("identical over # (replayed )?events?, # orders?, # fills?, # equity points?, # handoffs?, "
     "seq (#–#)(.*)", r"一致：\1 个事件，\3 笔订单，\4 笔成交，\5 个权益点，\6 次交接，seq \7\10"),
    ("; # of the events replayed now, from seq #, the others verified by &",
     r"；其中 \1 个事件此次从 seq \2 起重放，其余已于 \3 前验证"),
    ("(?>(.+?): row is missing, the reference run has )(.+); (epoch .+)",
     r"\1：没有存储这一行，参考运行中有 \2；\3"),
    ("(?>(.+?): row is )(?>(.+?), the reference run has none; )(epoch .+)",
     r"\1：存储了 \2，参考运行中没有这一行；\3"),
    ("(?>(.+?): ([^:]+?) is )(?>(.+?), the reference run has )(.+); (epoch .+)",
     r"\1：\2 为 \3，参考运行为 \4；\5"),
    (r"epoch # on @, r# by (\w+)(?: \(handoff #\))?, from seq # (on|to #)",
     r"纪元 \1，在 \2 上，r\3，起因 \4，从 seq \6 起"),
    (r"order # at seq #(?: \(.+\))?", r"seq \2 的订单 \1"),
    (r"fill # at seq #(?: \(.+\))?", r"seq \2 的成交 \1"),
    ("equity point at seq #", r"seq \1 的权益点"),
    ("end of order # at seq #", r"seq \2 的订单 \1 的了结"),
    ("state after seq #", r"seq \1 之后的状态"),
    # Notes
    ("@ was deleted at &.", r"\1 已于 \2 删除。"),
    ("Rows or inputs before seq # have changed since the verification at &, so the replay began "
     "before them.", r"seq \1 之前的行或输入在 \2 的验证之后有变化，因此重放从其之前开始。"),
    ("Orders and fills before seq # are archived, so the replay began at seq #, after them.",
     r"seq \1 之前的订单和成交已归档，因此重放从其后的 seq \2 开始。"),
    ("Orders and fills before seq # are archived, so they were not compared.",
     r"seq \1 之前的订单和成交已归档，因此未作比较。"),
    ("Some of (?:it|the history) ran under Python (.+); (?:it|all) was replayed under Python #.",
     r"其中一部分在 Python \1 下运行；重放使用 Python \2。"),
    ("# equity points were not compared: they are older than # days and no longer kept.",
     r"\1 个权益点未作比较：它们已超过 \2 天，不再保留。"),
    ("# orders and fills were not compared: they are archived.",
     r"\1 笔订单和成交未作比较：它们已归档。"),
    ("The time limit of # s ended (?:it|the verification) at seq # of #; the next (?:verification|"
     "one) continues from there. The state was not compared.",
     r"因时限 \1 秒在 seq \2 处结束，共到 \3；下一次验证从此处继续。状态未作比较。"),
    ("The state was not compared: only the newest is kept, as of seq #, and the comparison ended "
     "at seq #.", r"状态未作比较：只保留最新的状态，即 seq \1 处，而比较止于 seq \2。"),
    ("The state has no event count: an older version, which did not count events, made it. The "
     "count begins with the next commit; until then a lost event shows only by its effect.",
     r"状态中没有事件计数：它由不计数的旧版本生成。从下一次提交起计数；在此之前，"
     r"丢失的事件只能从其影响看出。"),
    ("Events are counted from seq # on: an older version, which did not count events, made the "
     "state before it.", r"事件从 seq \1 起计数：之前的状态由不计数的旧版本生成。"),
    # Verifications without a verdict
    ("Its runner was not heard of for # s; verify again.", r"其执行者已有 \1 秒没有消息；"
     r"请重新验证。"),
    ("No worker took it within # s; look whether the worker runs, then verify again.",
     r"\1 秒内没有工作进程接手；请检查工作进程是否在运行，然后重新验证。"),
    ("@ has not been verified yet.", r"\1 尚未验证。"),
    (r"Waits for its turn\.", r"排队等待。"),
    (r"Reads the log\.", r"正在读取日志。"),
    ("Identical so far, at seq # of #.", r"到目前为止一致，位于 seq \1，共到 \2。"),
    ("@ cannot be verified: it has committed no event yet; it is @.",
     r"\1 无法验证：它尚未提交任何事件；状态是\2。"),
    ("@ cannot be verified: (.+)", r"\1 无法验证：\2"),
    ("Feed @ keeps its records from seq # on, and seq # is needed.",
     r"行情源 \1 只保留 seq \2 起的记录，而需要 seq \3。"),
    ("Feed @ has no record of seq #, which was recorded: restore its records from a backup.",
     r"行情源 \1 没有 seq \2 的记录，而它曾被录制：请从备份恢复其记录。"),
    ("The records of feed @ from seq # to # are not those that were recorded, since their hash "
     "differs from the chain: restore them from a backup.",
     r"行情源 \1 从 seq \2 到 \3 的记录不是录制时的记录，其哈希与哈希链不符：请从备份恢复。"),
)  # fmt: skip
