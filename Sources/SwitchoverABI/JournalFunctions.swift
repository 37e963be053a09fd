// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import MigrationSession
import Runtime

@c @implementation
public func swo_journal_read(
  _ path: UnsafePointer<CChar>?, _ journal_out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer("swo_journal_read") { () throws(CallFailure) in
    guard let journal_out else { throw .invalid("journal_out is NULL") }
    journal_out.pointee = nil
    let record = try journal(at: try absolutePath(path, "path")).record
    journal_out.pointee = handle(owning: JournalHandle(record))
    return 0
  }
}

@c @implementation
public func swo_journal_free(_ journal: OpaquePointer?) { release(journal, JournalHandle.self) }

@c @implementation
public func swo_journal_name(_ journal: OpaquePointer?) -> UnsafePointer<CChar>? {
  recordText("swo_journal_name", journal) { $0.name.pointer(to: $0.record.name) }
}

@c @implementation
public func swo_journal_monitor(
  _ journal: OpaquePointer?, _ side: Int32
) -> UnsafePointer<CChar>? {
  textAnswer("swo_journal_monitor") { () throws(CallFailure) in
    let journal = try object(journal, JournalHandle.self)
    switch try Side(word: side) {
    case .source: return journal.sourceMonitor.pointer(to: journal.record.source.monitor)
    case .target: return journal.targetMonitor.pointer(to: journal.record.target.monitor)
    }
  }
}

@c @implementation
public func swo_journal_process(_ journal: OpaquePointer?, _ side: Int32) -> Int32 {
  answer("swo_journal_process") { () throws(CallFailure) in
    let record = try object(journal, JournalHandle.self).record
    let qemu = try Side(word: side) == .source ? record.source : record.target
    return qemu.process?.pid ?? 0
  }
}

@c @implementation
public func swo_journal_end(_ journal: OpaquePointer?) -> Int32 {
  number("swo_journal_end", journal) { ($0.outcome?.end.word ?? .SWO_END_NONE).rawValue }
}

@c @implementation
public func swo_journal_owner(_ journal: OpaquePointer?) -> Int32 {
  number("swo_journal_owner", journal) { ($0.outcome?.owner ?? .unknown).word.rawValue }
}

@c @implementation
public func swo_journal_guest(_ journal: OpaquePointer?) -> Int32 {
  number("swo_journal_guest", journal) { ($0.outcome?.guest ?? .unknown).word.rawValue }
}

@c @implementation
public func swo_journal_is_settled(_ journal: OpaquePointer?) -> Int32 {
  number("swo_journal_is_settled", journal) { $0.isSettled ? 1 : 0 }
}

@c @implementation
public func swo_journal_text(_ journal: OpaquePointer?) -> UnsafePointer<CChar>? {
  recordText("swo_journal_text", journal) { $0.text.pointer(to: $0.record.outcome?.text ?? "") }
}

@c @implementation
public func swo_journal_next_step(_ journal: OpaquePointer?) -> UnsafePointer<CChar>? {
  recordText("swo_journal_next_step", journal) {
    $0.nextStep.pointer(to: $0.record.outcome?.nextStep ?? "")
  }
}

// MARK: - Private

private func number(
  _ function: StaticString, _ pointer: OpaquePointer?, _ body: (JournalRecord) -> UInt32
) -> Int32 {
  answer(function) { () throws(CallFailure) in
    Int32(bitPattern: body(try object(pointer, JournalHandle.self).record))
  }
}

private func recordText(
  _ function: StaticString, _ pointer: OpaquePointer?,
  _ body: (JournalHandle) -> UnsafePointer<CChar>
) -> UnsafePointer<CChar> {
  textAnswer(function) { () throws(CallFailure) in body(try object(pointer, JournalHandle.self)) }
}
