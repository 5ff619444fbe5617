"""Chinese texts of alerts.

The statement that opens an alert stores its text in English (`scheduling/enact/alerts.py`).
"""

from __future__ import annotations

ALERTS = (
    # Nodes and the fleet
    ("@ is lost since &: (.+)", r"\1 自 \2 起失联：\3"),
    ("@ is lost since &", r"\1 自 \2 起失联"),
    ("# s without a heartbeat after # s without an answer, limit # s",
     r"\2 秒未收到应答，之后 \1 秒没有心跳，上限 \3 秒"),
    ("# s without a heartbeat, limit # s", r"\1 秒没有心跳，上限 \2 秒"),
    ("its connection closed & and it did not return in # s", r"连接于 \1 断开，\2 秒内未恢复"),
    ("its process was found ended at &", r"\1 发现其进程已退出"),
    ("# of # nodes were lost within # s, so failover is held until a person releases it",
     r"\2 个节点中有 \1 个在 \3 秒内失联，故障转移已暂停，直到有人放行"),
    ("# of # nodes were lost within # s, so failover is held",
     r"\2 个节点中有 \1 个在 \3 秒内失联，故障转移已暂停"),
    ("no node takes a portfolio: of # alive, # drain and # are cordoned; uncordon one or add one",
     r"没有节点接收组合：\1 个在线节点中 \2 个排空中、\3 个已封锁；请解除一个的封锁，或增加节点"),
    ("no complete pass since the start (?:beside a live watcher|although a watcher runs), limit # "
     "s: lost nodes are not failed over; see the log of the watcher",
     r"启动以来监视进程在运行却没有完整的一轮，上限 \1 秒：失联节点不会故障转移；"
     r"请查看监视进程的日志"),
    ("no complete pass since & (?:beside a live watcher|although a watcher runs), limit # s: "
     "lost nodes are not failed over; see the log of the watcher",
     r"自 \1 起监视进程在运行却没有完整的一轮，上限 \2 秒：失联节点不会故障转移；"
     r"请查看监视进程的日志"),
    ("no watcher has looked since &, limit # s: (.+); start a watcher, or see its log",
     r"自 \1 起没有监视进程工作，上限 \2 秒：\3；请启动监视进程，或查看其日志"),
    ("a lost node waits for the next pass of a worker", r"失联节点要等工作进程的下一轮"),
    ("no worker runs passes either, so nothing fails over", r"工作进程也没有运行，"
     r"故障转移无法进行"),
    # Portfolios
    ("no progress since & while events wait, limit # s", r"自 \1 起没有进展，而有事件在等待，"
     r"上限 \2 秒"),
    ("# portfolios are pending: (~); (.+)", r"\1 个组合待放置：\2；\3"),
    ("# portfolios are pending: (~)", r"\1 个组合待放置：\2"),
    ("needs # places?: no room on # nodes?: ([^;]+); ([^;]+)",
     r"需要 \1 个空位：\2 个节点没有空位：\3；\4"),
    (r"needs # places?: no room on # nodes? with (\S+): ([^;]+); ([^;]+)",
     r"需要 \1 个空位：带有 \3 的 \2 个节点没有空位：\4；\5"),
    ("@ # of #", r"\1 \2/\3"),
    (r"(\S+ [\d,.]+ of [\d,.]+), ([^;]+)", r"\1，\2"),  # the next of the list, and the rest
    (r"uncordon (\S+) or add a node", r"解除 \1 的封锁，或增加节点"),
    (r"undo the drain of (\S+) or add a node", r"结束 \1 的排空，或增加节点"),
    ("wait until the flapping node is stable or add a node", r"等频繁失联的节点稳定下来，"
     r"或增加节点"),
    ("add a node or make the spread group soft", r"增加节点，或将分散组设为软约束"),
    ("add a node, raise a capacity or stop a portfolio", r"增加节点、提高容量，或停止一个组合"),
    ("needs # places? on one node: the largest of # nodes?(?: with \\S+)? has #; raise a node's "
     "capacity or lower the weight",
     r"需要一个节点上有 \1 个空位：\2 个节点中最大容量为 \3；提高某个节点的容量，或降低权重"),
    ("needs # places?: 0 of # nodes? (?:is|are) alive; start one again or add one",
     r"需要 \1 个空位：\2 个节点中 0 个在线；重新启动一个，或增加一个"),
    ("needs # places?: there is no node yet; start one with run_node",
     r"需要 \1 个空位：还没有节点；用 run_node 启动一个"),
    ("(~) and # more", r"\1 等，另有 \2 个"),
    ("@ on @ has lagged by more than # s since &(;.*)?: give it a faster node or less to do",
     r"\2 上的 \1 自 \4 起落后超过 \3 秒\5：请换更快的节点，或减轻其负担"),
    ("# portfolios on @ have lagged by more than # s since &: (~)(;.*)?: give it a faster node or "
     "less to do", r"\2 上 \1 个组合自 \4 起落后超过 \3 秒：\5\6：请换更快的节点，或减轻其负担"),
    ("; decisions on events that old are not placed", r"；基于如此旧的事件的决策不会下单"),
    ("no order was placed since &: each was refused by a limit or decided on stale events; see its "
     "orders", r"自 \1 起没有下单：每一笔都被限额拒绝，或基于过时事件；请查看其订单"),
    ("roll-out # (.+); take it back, or give that portfolio another revision",
     r"发布 \1 \2；请撤回它，或给该组合另一修订"),
    ("its verification is (.+)", r"其验证结果：\1"),
    ("its orders and fills up to seq # were archived, and it is verified up to seq # only: look at "
     "its verification; the archive has every row",
     r"截至 seq \1 的订单和成交已归档，而只验证到 seq \2：请查看其验证；归档中有每一行"),
    ("feed @ has no record since &, limit # s; portfolios that need it: (~)",
     r"行情源 \1 自 \2 起没有记录，上限 \3 秒；需要它的组合：\4"),
    # The database
    ("no commit gets through since & though the database answers: look for a session that locks a "
     "table or for commits that wait for a disk or a standby; no deadline is judged meanwhile",
     r"自 \1 起没有提交成功，而数据库有响应：请查找锁表的会话，或等待磁盘或备库的提交；"
     r"其间不判定任何期限"),
    (r"pid # \((?>(.+), user )([^)]+)\) has held a snapshot since &, limit # s: nothing is "
     r"vacuumed and commits get slower; end it with pg_terminate_backend\(#\) if it is not a dump",
     r"pid \1（\2，用户 \3）自 \4 起持有快照，上限 \5 秒：无法清理，提交变慢；若不是备份，请用 "
     r"pg_terminate_backend(\6) 结束它"),
    ("no name", r"无名称"),
    ("records are stored in @, since no partition was attached for them: another session may hold "
     "the table; run manage.py archive_records",
     r"没有为记录挂接分区，它们存入了 \1：可能有其他会话占用该表；请运行 manage.py "
     r"archive_records"),
    (r"the database grows by (\S+ \S+) a day, most of it @, and its disk has (\S+ \S+) free: full "
     "in # days; keep records for a shorter time or give it more room",
     r"数据库每天增长 \1，主要是 \2，其磁盘剩余 \3：\4 天后写满；请缩短记录的保留时间，或扩大空间"),
    ("the disk of the database is full: commits are refused; free space on it, or attach more",
     r"数据库的磁盘已满，提交被拒绝；请释放空间，或扩容"),
    ("the disk of the database has # MB free, # %; free space on it, or attach more",
     r"数据库的磁盘剩余 \1 MB，即 \2 %；请释放空间，或扩容"),
    ("# schedules of the queue are not those of Ginkgo and are refused: (.+); another program "
     "wrote to django_q_schedule: find it, and delete the rows",
     r"队列中有 \1 个计划不属于 Ginkgo，已被拒绝：\2；另有程序写入 django_q_schedule："
     r"请找出它并删除这些行"),
    (r"the database lacks acknowledged commits \(portfolios: #, events: #, placed orders: #"
     r"( or more)?\)(.*); "
     "run manage.py raise_epoch_floor",
     r"数据库缺少已确认的提交（组合 \1 个，事件 \2 个，已下订单 \3 笔\4）\5；请运行 manage.py "
     r"raise_epoch_floor"),
    (" or more", r"或更多"),
    ("; unverified portfolios: #", r"；未核实的组合 \1 个"),
    ("the database went on as timeline # without a synchronous standby, so acknowledged commits "
     "may be missing; no daemon has reported any; run manage.py raise_epoch_floor",
     r"数据库在没有同步备库的情况下以时间线 \1 继续，已确认的提交可能丢失；尚无守护进程报告；"
     r"请运行 manage.py raise_epoch_floor"),
    # Deliveries
    ("A test message, requested by (.+)\\.", r"测试消息，由 \1 请求。"),
    ("(?:apprise|it) failed with @", r"发送失败：\1"),
    ("not delivered in # s: (.+)", r"\1 秒内未能送达：\2"),
    ("not delivered in # s", r"\1 秒内未能送达"),
    ("it has no address: GINKGO_ALERT_URL is not set", r"没有地址：未设置 GINKGO_ALERT_URL"),
    ("apprise does not understand the address: see its wiki for the form it wants",
     r"apprise 不能识别该地址：其文档说明了所需的形式"),
    ("[a-z ]+: the cause is gone", r"原因已消除"),
)  # fmt: skip
