"""What a line of the audit log says, as a sentence in both languages, with links. Pure.

A kind without a sentence here, or a line that lacks a part of its sentence, shows its data as
words: a new kind of line is readable before it has a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.utils.translation import get_language

from scheduling.decide.reasons import is_chinese
from scheduling.observe.incarnations import without_incarnations
from scheduling.presentation.formatting import because, pause
from scheduling.presentation.state_words import alert_word, event_word, item_word, state_word


class AuditLine(Protocol):
    """A line of the audit log, as a row of `Event` or with the same two fields."""

    kind: str
    data: Any


class Link(NamedTuple):
    """What a line refers to: the name of an address of the desk, and its argument."""

    view: str
    argument: Any
    label: str


#: kind → (English, Chinese). Braces hold parts of the data, as `_parts` returns them.
SENTENCES: dict[str, tuple[str, str]] = {
    "portfolio_created": ("created with r{revision}", "已创建，修订 r{revision}"),
    "portfolio_changed": (
        "changed {fields}; wants r{revision}",
        "修改了 {fields}；目标修订 r{revision}",
    ),
    "portfolio_started": ("asked to start", "要求启动"),
    "portfolio_stopped": ("asked to stop", "要求停止"),
    "portfolio_deleted": ("deleted", "已删除"),
    "handoff_requested": ("handoff {handoff} requested: {kind}", "请求交接 {handoff}：{kind}"),
    "handoff_done": ("handoff {handoff} done: {kind}", "交接 {handoff} 完成：{kind}"),
    "handoff_failed": ("handoff {handoff} failed: {kind}", "交接 {handoff} 失败：{kind}"),
    "handoff_rolled_back": (
        "handoff {handoff} rolled back: {kind}",
        "交接 {handoff} 已回退：{kind}",
    ),
    "handoff_superseded": ("handoff {handoff} superseded", "交接 {handoff} 已被取代"),
    "granted": (
        "owner from seq {from_seq} on: epoch {epoch}, r{revision}, by {cause}",
        "自 seq {from_seq} 起成为所有者：纪元 {epoch}，r{revision}，起因 {cause}",
    ),
    "ended": (
        "no owner after seq {from_seq}: epoch {epoch}, by {cause}",
        "seq {from_seq} 之后无所有者：纪元 {epoch}，起因 {cause}",
    ),
    "revision_good": ("r{revision} is good", "r{revision} 已验证为良好"),
    "revision_rejected": ("r{revision} was rejected", "r{revision} 被拒绝"),
    "process_died": (
        "process of r{revision} ended at seq {seq}, epoch {epoch}, stage {stage}",
        "r{revision} 的进程在 seq {seq} 结束，纪元 {epoch}，阶段 {stage}",
    ),
    "commit_refused": (
        "commit of epoch {epoch} refused: seq {from_seq} to {to_seq}, {orders} orders",
        "纪元 {epoch} 的提交被拒绝：seq {from_seq} 至 {to_seq}，{orders} 笔订单",
    ),
    "halted": ("halted", "已叫停"),
    "quarantined": ("quarantined", "已隔离"),
    "pinned": ("pinned to the node", "固定到该节点"),
    "unpinned": ("no longer pinned to the node", "不再固定到该节点"),
    "python_accepted": ("may also run under Python {python}", "也可在 Python {python} 下运行"),
    "node_registered": ("registered on {host}, pid {pid}", "在 {host} 注册，pid {pid}"),
    "node_alive": ("alive", "在线"),
    "node_leaving": ("is leaving", "正在离开"),
    "node_left": ("left", "已离开"),
    "node_lost": ("lost", "失联"),
    "node_forgotten": (
        "forgotten; {tokens_revoked} tokens revoked",
        "已移除；吊销 {tokens_revoked} 个令牌",
    ),
    "node_draining": ("drain begun", "开始排空"),
    "node_undrained": ("drain ended", "结束排空"),
    "node_cordoned": ("cordoned", "已封锁"),
    "node_uncordoned": ("no longer cordoned", "解除封锁"),
    "node_token_created": ("token {token} created", "令牌 {token} 已创建"),
    "node_token_revoked": ("its tokens were revoked", "其令牌已吊销"),
    "api_token_created": (
        "token {token} of {user} created, scope {scope}",
        "{user} 的令牌 {token} 已创建，权限 {scope}",
    ),
    "api_token_revoked": ("tokens of {user} were revoked", "{user} 的令牌已吊销"),
    "frozen": ("automatic moves stop", "自动迁移停止"),
    "unfrozen": ("automatic moves continue", "自动迁移恢复"),
    "even_by": ("rebalancing evens out {even_by}", "再平衡依据 {even_by}"),
    "feed_rate": (
        "feed at {rate} events/s from seq {from_seq} on",
        "自 seq {from_seq} 起行情每秒 {rate} 个事件",
    ),
    "halted_all": (
        "halt {halt}: {stopped} portfolios stopped",
        "紧急停止 {halt}：停止 {stopped} 个组合",
    ),
    "halt_undone": (
        "halt {halt} undone: {started} portfolios start",
        "紧急停止 {halt} 已撤销：启动 {started} 个组合",
    ),
    "storm_held": ("failover is held", "故障转移暂停"),
    "storm_over": ("failover continues by itself", "故障转移自动恢复"),
    "storm_released": ("failover was released", "故障转移已放行"),
    "epoch_floor_raised": (
        "epochs raised by {by}: {portfolios} portfolios",
        "纪元提高 {by}：{portfolios} 个组合",
    ),
    "artifact_added": ("artifact with {strategies} added", "已添加制品，策略 {strategies}"),
    "artifact_deleted": ("artifact deleted", "制品已删除"),
    "roll_out_started": (
        "roll-out {roll_out} to {portfolios} portfolios begun",
        "发布 {roll_out} 开始，共 {portfolios} 个组合",
    ),
    "roll_out_portfolio": ("roll-out {roll_out}: {state}", "发布 {roll_out}：{state}"),
    "roll_out_finished": ("roll-out {roll_out} finished", "发布 {roll_out} 完成"),
    "roll_out_stopping": ("roll-out {roll_out} is stopping", "发布 {roll_out} 正在停止"),
    "roll_out_stopped": ("roll-out {roll_out} stopped", "发布 {roll_out} 已停止"),
    "roll_out_going_back": ("roll-out {roll_out} is taken back", "发布 {roll_out} 正在撤回"),
    "roll_out_back": ("roll-out {roll_out} was taken back", "发布 {roll_out} 已撤回"),
    "verification_requested": ("verification {verification} requested", "请求验证 {verification}"),
    "verified": ("verification {verification}: {state}", "验证 {verification}：{state}"),
    "secret_set": ("secret {name} set", "密钥 {name} 已设置"),
    "secret_deleted": ("secret {name} deleted", "密钥 {name} 已删除"),
    "secrets_rotated": ("{secrets} secrets encrypted anew", "已重新加密 {secrets} 个密钥"),
    "feed_created": ("feed {feed} created", "行情源 {feed} 已创建"),
    "feed_removed": ("feed {feed} removed", "行情源 {feed} 已移除"),
    "feed_instruments": ("{added} added to feed {feed}", "行情源 {feed} 增加 {added}"),
    "feed_recording": ("{writer} records feed {feed}", "{writer} 开始录制行情源 {feed}"),
    "feed_recording_ended": (
        "recording of feed {feed} ended, {rows} rows",
        "行情源 {feed} 的录制结束，{rows} 行",
    ),
    "feed_released": ("feed {feed} has no writer any more", "行情源 {feed} 不再有写入者"),
    "feed_records_dropped": (
        "{records} records of feed {feed} dropped",
        "删除行情源 {feed} 的 {records} 条记录",
    ),
    "commits_vanished": (
        "{events} events and {orders} orders vanished",
        "{events} 个事件和 {orders} 笔订单丢失",
    ),
    "alert_opened": ("alert {alert} opened: {kind}", "警报 {alert} 触发：{kind}"),
    "alert_closed": ("alert {alert} closed: {kind}", "警报 {alert} 解除：{kind}"),
    "alert_acknowledged": ("alert {alert} acknowledged: {kind}", "警报 {alert} 已确认：{kind}"),
    "alert_channel_set": ("channel {channel} set", "渠道 {channel} 已设置"),
    "alert_channel_removed": ("channel {channel} removed", "渠道 {channel} 已移除"),
    "alert_channel_tested": (
        "test message to channel {channel} requested",
        "请求向渠道 {channel} 发送测试消息",
    ),
    "logged_in": ("{user} signed in", "{user} 登录"),
    "logged_out": ("{user} signed out", "{user} 退出"),
    "user_created": ("user {user} created", "用户 {user} 已创建"),
    "user_changed": ("{fields} of user {user} changed", "修改了用户 {user} 的 {fields}"),
    "user_activated": ("user {user} activated", "用户 {user} 已启用"),
    "user_deactivated": ("user {user} deactivated", "用户 {user} 已停用"),
    "user_role": ("{user} is now: {role}", "{user} 现在是：{role}"),
    "password_reset": ("password of {user} reset", "{user} 的密码已重置"),
    "user_deleted": ("user {user} deleted", "用户 {user} 已删除"),
    "group_created": ("group {group} created", "用户组 {group} 已创建"),
    "group_changed": ("group {group} renamed", "用户组 {group} 已改名"),
    "group_deleted": ("group {group} deleted", "用户组 {group} 已删除"),
    "login_refused": ("login refused", "登录被拒绝"),
    "task_refused": ("task {func} refused", "任务 {func} 被拒绝"),
}

#: Part of the data → the address of the desk that shows it, and its word in English and Chinese.
_LINKED = {
    "handoff": ("handoff", "handoff", "交接"),
    "roll_out": ("roll-out", "roll-out", "发布"),
    "halt": ("halted", "halt", "紧急停止"),
}


def shown_data(data: Any, *, operator: bool) -> Any:
    """Return the data of a line for readers; for viewers, with digests of incarnations.

    Without `deaths`: the ids of exits, by which a repeated report of an exit is recognized.
    """
    shown = data if operator else without_incarnations(data)
    if isinstance(shown, Mapping):
        return {key: part for key, part in shown.items() if key != "deaths"}
    return shown


def _value_text(value: Any) -> str:
    """Return a part of the data as text: the first eight of a list, a number as 1,234."""
    if isinstance(value, list):
        shown = ", ".join(_value_text(each) for each in value[:8])
        return f"{shown} +{len(value) - 8}" if len(value) > 8 else shown
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value_text(each)}" for key, each in value.items())
    return str(value)


#: Kind and part of the data → the sentence of the kind if that part is true.
_IF_TRUE = {
    ("frozen", "failover"): ("automatic moves stop, failover too", "自动迁移停止，故障转移也停止"),
    ("alert_channel_set", "replaced"): (
        "channel {channel} has another address",
        "渠道 {channel} 已更换地址",
    ),
    ("commit_refused", "shared"): (
        "commits of further portfolios, first of epoch {epoch}, refused",
        "更多组合的提交被拒绝，首个为纪元 {epoch}",
    ),
}

#: Table and change → the sentence. `holder`: a user or group; `held`: its groups or permissions.
_MEMBERSHIPS = {
    ("user_groups", "added"): ("{holder}: added to group {held}", "{holder}：加入用户组 {held}"),
    ("user_groups", "removed"): (
        "{holder}: removed from group {held}",
        "{holder}：移出用户组 {held}",
    ),
    ("user_groups", "cleared"): ("{holder}: removed from every group", "{holder}：移出所有用户组"),
    **{
        (table, change): sentence
        for table in ("user_user_permissions", "group_permissions")
        for change, sentence in {
            "added": ("{holder}: permission given: {held}", "{holder}：获得权限：{held}"),
            "removed": ("{holder}: permission removed: {held}", "{holder}：失去权限：{held}"),
            "cleared": ("{holder}: every permission removed", "{holder}：失去全部单独权限"),
        }.items()
    },
}


def _membership(data: Mapping[str, Any]) -> tuple[tuple[str, str], dict[str, Any]] | None:
    """Return sentence and parts of a change of groups or permissions; None for any other line.

    Its data names the table (`what`), the changed row (`of`) and those added or removed. With
    `reverse` the changed row is the group or permission, whose users or groups were changed.
    """
    for change in ("added", "removed", "cleared"):
        sentence = _MEMBERSHIPS.get((str(data.get("what")), change))
        if sentence is not None and change in data:
            holder, held = data.get("of"), data[change]
            if data.get("reverse"):
                holder, held = held, holder
            return sentence, {"holder": holder, "held": held}
    return None


def _user_field(name: str) -> str:
    """Return what pages call a field of a user, or its name if there is no such field any more."""
    try:
        return str(getattr(get_user_model()._meta.get_field(name), "verbose_name", name))
    except FieldDoesNotExist:
        return name


def _sentence_of(kind: str, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the sentence in English and Chinese, None for a kind that has none."""
    for (of_kind, part), instead in _IF_TRUE.items():
        if kind == of_kind and data.get(part) is True:
            return instead
    return SENTENCES.get(kind)


def audit_sentence(line: AuditLine) -> str:
    """Return what the line says, in the language of the request."""
    data = line.data if isinstance(line.data, Mapping) else {}
    chinese = is_chinese(get_language())
    membership = _membership(data)
    templates, data = membership or (_sentence_of(line.kind, data), data)
    if line.kind == "user_changed" and isinstance(data.get("fields"), list):
        data = {**data, "fields": [_user_field(str(name)) for name in data["fields"]]}
    if templates is not None:
        template = templates[1 if chinese else 0]
        try:
            sentence = template.format_map(_parts(line.kind, data, chinese))
        except KeyError:  # the line lacks a part of its sentence
            pass
        else:
            return sentence + _supplement(line.kind, data, chinese)
    shown = shown_data(data, operator=False)
    shown.pop("incarnation", None)  # says nothing to readers of a sentence
    return because(event_word(line.kind), _value_text(shown))


def _parts(kind: str, data: Mapping[str, Any], chinese: bool) -> dict[str, str]:
    """Return the texts for the placeholders of a line's template: lists joined, codes as words."""
    parts = {key: _value_text(value) for key, value in data.items() if value is not None}
    parts |= {key: str(data[key]) for key in _NAMING_NUMBERS if isinstance(data.get(key), int)}
    if kind == "roll_out_portfolio" and isinstance(data.get("state"), str):
        parts["state"] = item_word(data["state"])
    elif kind in _OF_ALERTS and isinstance(data.get("kind"), str):
        parts["kind"] = alert_word(data["kind"])
    else:
        codes = _CODES if chinese else _CODES_WITH_ENGLISH_WORDS
        parts |= {key: state_word(data[key]) for key in codes if isinstance(data.get(key), str)}
    return parts


def _supplement(kind: str, data: Mapping[str, Any], chinese: bool) -> str:
    """Return what follows the sentence: a pause, and how many events the line stands for."""
    text = ""
    took_ms = data.get("pause_ms")
    if isinstance(took_ms, int | float):
        text += f"{'，停顿' if chinese else ', pause'} {pause(took_ms)}"
    times = data.get("times")
    if kind in _TIMES and isinstance(times, int) and times > 1:
        text += _TIMES[kind][1 if chinese else 0].format(times=times, further=times - 1)
    return text


#: Parts that are codes. In English only some are replaced by words: the others are words already.
_CODES = ("kind", "cause", "state", "stage", "role")
_CODES_WITH_ENGLISH_WORDS = ("kind", "cause")
#: Kind → (English, Chinese), for lines of which one stands for all that followed soon: `times`.
_TIMES = {
    "commit_refused": (", {times:,} times in an hour", "，一小时内 {times:,} 次"),
    "process_died": (
        ", and {further:,} further exits in ten minutes",
        "，十分钟内又退出 {further:,} 次",
    ),
}
_OF_ALERTS = frozenset({"alert_opened", "alert_closed", "alert_acknowledged"})
#: Parts whose numbers name a row or process: they are shown without thousands separators.
_NAMING_NUMBERS = (
    *("handoff", "revision", "epoch", "halt", "roll_out", "verification", "token", "pid"),
    "alert",
)


def audit_links(line: AuditLine) -> list[Link]:
    """Return the pages that the line refers to."""
    data = line.data if isinstance(line.data, Mapping) else {}
    chinese = is_chinese(get_language())
    return [
        Link(view, data[key], f"{words[1 if chinese else 0]} {data[key]}")
        for key, (view, *words) in _LINKED.items()
        if isinstance(data.get(key), int)
    ]
