// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import Runtime

@c @implementation
public func swo_recovery_decision(_ recovery: OpaquePointer?) -> Int32 {
  number("swo_recovery_decision", recovery) { $0?.action.word.rawValue ?? 0 }
}

@c @implementation
public func swo_recovery_owner(_ recovery: OpaquePointer?) -> Int32 {
  number("swo_recovery_owner", recovery) { ($0?.owner ?? .unknown).word.rawValue }
}

@c @implementation
public func swo_recovery_guest(_ recovery: OpaquePointer?) -> Int32 {
  number("swo_recovery_guest", recovery) { ($0?.guest ?? .unknown).word.rawValue }
}

@c @implementation
public func swo_recovery_rule(_ recovery: OpaquePointer?) -> UnsafePointer<CChar>? {
  conclusionText("swo_recovery_rule", recovery, \.rule) { $0.rule }
}

@c @implementation
public func swo_recovery_text(_ recovery: OpaquePointer?) -> UnsafePointer<CChar>? {
  conclusionText("swo_recovery_text", recovery, \.text) { $0.text }
}

@c @implementation
public func swo_recovery_next_step(_ recovery: OpaquePointer?) -> UnsafePointer<CChar>? {
  conclusionText("swo_recovery_next_step", recovery, \.nextStep) { $0.nextStep }
}

@c @implementation
public func swo_recovery_word(
  _ recovery: OpaquePointer?, _ index: Int32
) -> UnsafePointer<CChar>? {
  entry(recovery, .words, index)
}

@c @implementation
public func swo_recovery_finding(
  _ recovery: OpaquePointer?, _ index: Int32
) -> UnsafePointer<CChar>? {
  entry(recovery, .findings, index)
}

@c @implementation
public func swo_recovery_deed(
  _ recovery: OpaquePointer?, _ index: Int32
) -> UnsafePointer<CChar>? {
  entry(recovery, .deeds, index)
}

@c @implementation
public func swo_recovery_action_name(_ action: Int32) -> UnsafePointer<CChar>? {
  switch swo_recovery_action(rawValue: UInt32(bitPattern: action)) {
  case .SWO_RECOVERY_NOTHING: constant("nothing")
  case .SWO_RECOVERY_WAIT: constant("wait")
  case .SWO_RECOVERY_CANCEL_MIGRATION: constant("cancel the migration")
  case .SWO_RECOVERY_RESUME_TARGET: constant("resume the target")
  case .SWO_RECOVERY_END_TARGET: constant("end the target, then resume the source")
  case .SWO_RECOVERY_RESUME_SOURCE: constant("resume the source")
  case .SWO_RECOVERY_QUIT_SOURCE: constant("quit the source")
  case .SWO_RECOVERY_ASK: constant("ask")
  default: constant("?")
  }
}

@c @implementation
public func swo_recovery_table_count() -> Int32 { Int32(clamping: RecoveryTable.rules.count) }

@c @implementation
public func swo_recovery_table_cell(
  _ index: Int32, _ column: Int32, _ buffer: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
  answer("swo_recovery_table_cell") { () throws(CallFailure) in
    let rules = RecoveryTable.rules
    guard rules.indices.contains(Int(index)) else {
      throw .invalid("row \(index) is not in 0..<\(rules.count)")
    }
    guard buffer != nil || size == 0 else { throw .invalid("buffer is NULL") }
    let text = try cell(column, of: rules[Int(index)])
    if let buffer, size > 0 { copy(text, to: buffer, size) }
    return Int32(clamping: text.utf8.count)
  }
}

@c @implementation
public func swo_event_recovery(_ event: OpaquePointer?) -> OpaquePointer? {
  guard let event = try? object(event, EventHandle.self) else { return nil }
  return handle(borrowing: event.event.member.handle as? RecoveryHandle)
}

// MARK: - Private

extension RecoveryAction {
  fileprivate var word: swo_recovery_action {
    switch self {
    case .nothing: .SWO_RECOVERY_NOTHING
    case .wait: .SWO_RECOVERY_WAIT
    case .cancelMigration: .SWO_RECOVERY_CANCEL_MIGRATION
    case .resumeTarget: .SWO_RECOVERY_RESUME_TARGET
    case .endTargetThenResumeSource: .SWO_RECOVERY_END_TARGET
    case .resumeSource: .SWO_RECOVERY_RESUME_SOURCE
    case .quitSource: .SWO_RECOVERY_QUIT_SOURCE
    case .ask: .SWO_RECOVERY_ASK
    }
  }
}

/// A word of its end as its number; nil stands for one that has not ended.
private func number(
  _ function: StaticString, _ pointer: OpaquePointer?, _ body: (RecoveryConclusion?) -> UInt32
) -> Int32 {
  answer(function) { () throws(CallFailure) in
    let handle = try object(pointer, RecoveryHandle.self)
    _ = try handle.loop()
    return Int32(bitPattern: body(handle.recovery?.conclusion))
  }
}

/// A text of its end; "" before.
private func conclusionText(
  _ function: StaticString, _ pointer: OpaquePointer?,
  _ owner: KeyPath<RecoveryHandle, OwnedText>, _ body: (RecoveryConclusion) -> String
) -> UnsafePointer<CChar> {
  textAnswer(function) { () throws(CallFailure) in
    let handle = try object(pointer, RecoveryHandle.self)
    _ = try handle.loop()
    guard let conclusion = handle.recovery?.conclusion else { return constant("") }
    return handle[keyPath: owner].pointer(to: body(conclusion))
  }
}

private func entry(
  _ pointer: OpaquePointer?, _ list: RecoveryHandle.List, _ index: Int32
) -> UnsafePointer<CChar>? {
  guard let handle = try? object(pointer, RecoveryHandle.self), (try? handle.loop()) != nil else {
    return nil
  }
  return handle.entry(list, index)
}

private func cell(_ column: Int32, of rule: RecoveryRule) throws(CallFailure) -> String {
  switch swo_recovery_column(rawValue: UInt32(bitPattern: column)) {
  case .SWO_RECOVERY_COLUMN_RULE: return rule.name
  case .SWO_RECOVERY_COLUMN_SOURCE: return rule.source.description
  case .SWO_RECOVERY_COLUMN_TARGET: return rule.target.description
  case .SWO_RECOVERY_COLUMN_CLUSTER: return rule.cluster.description
  case .SWO_RECOVERY_COLUMN_GUEST_RUN: return rule.guestRun.description
  case .SWO_RECOVERY_COLUMN_TARGET_PAST: return rule.targetPast.description
  case .SWO_RECOVERY_COLUMN_ACTION: return rule.action.description
  case .SWO_RECOVERY_COLUMN_OWNER: return "\(rule.owner)"
  case .SWO_RECOVERY_COLUMN_GUEST: return "\(rule.guest)"
  case .SWO_RECOVERY_COLUMN_MEANING: return rule.meaning
  case .SWO_RECOVERY_COLUMN_TO_DO: return rule.toDo
  case .SWO_RECOVERY_COLUMN_WORDS:
    return rule.words.map { "\($0)" }.filter { !$0.isEmpty }.joined(separator: ", ")
  default: throw .invalid("column \(column) is no swo_recovery_column")
  }
}

/// Copies as much as fits, cut at a character, with a closing zero.
private func copy(_ text: String, to buffer: UnsafeMutablePointer<CChar>, _ size: Int) {
  var count = 0
  for character in text {
    let bytes = character.utf8
    guard count + bytes.count < size else { break }
    for byte in bytes {
      buffer[count] = CChar(bitPattern: byte)
      count += 1
    }
  }
  buffer[count] = 0
}
