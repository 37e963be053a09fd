// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import Runtime

@c @implementation
public func swo_migration_phase(_ migration: OpaquePointer?) -> Int32 {
  word("swo_migration_phase", migration) { $0.map(\.phase.word.rawValue) ?? 0 }
}

@c @implementation
public func swo_migration_end(_ migration: OpaquePointer?) -> Int32 {
  word("swo_migration_end", migration) { $0?.conclusion?.end.word.rawValue ?? 0 }
}

@c @implementation
public func swo_migration_owner(_ migration: OpaquePointer?) -> Int32 {
  word("swo_migration_owner", migration) { ($0?.owner ?? .source).word.rawValue }
}

@c @implementation
public func swo_migration_guest(_ migration: OpaquePointer?) -> Int32 {
  word("swo_migration_guest", migration) { ($0?.guest ?? .unknown).word.rawValue }
}

@c @implementation
public func swo_migration_number(
  _ migration: OpaquePointer?, _ number: Int32, _ value_out: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  answer("swo_migration_number") { () throws(CallFailure) in
    guard let value_out else { throw .invalid("value_out is NULL") }
    let migration = try object(migration, MigrationHandle.self).started()
    guard let value = try figure(number, of: migration) else {
      throw .state("that figure is not known")
    }
    value_out.pointee = value
    return 0
  }
}

@c @implementation
public func swo_migration_report(_ migration: OpaquePointer?) -> UnsafePointer<CChar>? {
  textAnswer("swo_migration_report") { () throws(CallFailure) in
    let handle = try object(migration, MigrationHandle.self)
    return handle.report.pointer(to: try handle.started().sourceReport)
  }
}

@c @implementation
public func swo_migration_ledger_count(_ migration: OpaquePointer?) -> Int32 {
  word("swo_migration_ledger_count", migration) { migration in
    UInt32(clamping: migration.map { parts(of: $0).count } ?? 0)
  }
}

@c @implementation
public func swo_migration_ledger_part(
  _ migration: OpaquePointer?, _ index: Int32,
  _ name_out: UnsafeMutablePointer<UnsafePointer<CChar>?>?,
  _ start_us_out: UnsafeMutablePointer<Int64>?, _ length_us_out: UnsafeMutablePointer<Int64>?
) -> Int32 {
  answer("swo_migration_ledger_part") { () throws(CallFailure) in
    let handle = try object(migration, MigrationHandle.self)
    let parts = parts(of: try handle.started())
    let index = Int(index)
    guard parts.indices.contains(index) else {
      throw .invalid("part \(index) is not in 0..<\(parts.count)")
    }
    name_out?.pointee = handle.ledgerName(index, parts[index].name)
    start_us_out?.pointee = parts[index].start
    length_us_out?.pointee = parts[index].length
    return 0
  }
}

@c @implementation
public func swo_migration_failure(_ migration: OpaquePointer?) -> Int32 {
  word("swo_migration_failure", migration) {
    UInt32(clamping: $0?.conclusion?.failure?.code.rawValue ?? 0)
  }
}

@c @implementation
public func swo_migration_failure_side(_ migration: OpaquePointer?) -> Int32 {
  word("swo_migration_failure_side", migration) {
    ($0?.conclusion?.failure?.side?.word ?? .SWO_SIDE_NONE).rawValue
  }
}

@c @implementation
public func swo_migration_failure_command(
  _ migration: OpaquePointer?
) -> UnsafePointer<CChar>? {
  conclusionText("swo_migration_failure_command", migration, \.failureCommand) {
    $0.failure?.command ?? ""
  }
}

@c @implementation
public func swo_migration_failure_class(_ migration: OpaquePointer?) -> UnsafePointer<CChar>? {
  conclusionText("swo_migration_failure_class", migration, \.failureClass) {
    $0.failure?.errorClass ?? ""
  }
}

@c @implementation
public func swo_migration_failure_text(_ migration: OpaquePointer?) -> UnsafePointer<CChar>? {
  conclusionText("swo_migration_failure_text", migration, \.failureText) {
    $0.failure?.text ?? ""
  }
}

@c @implementation
public func swo_migration_next_step(_ migration: OpaquePointer?) -> UnsafePointer<CChar>? {
  conclusionText("swo_migration_next_step", migration, \.nextStep) { $0.nextStep }
}

@c @implementation
public func swo_migration_summary(_ migration: OpaquePointer?) -> UnsafePointer<CChar>? {
  textAnswer("swo_migration_summary") { () throws(CallFailure) in
    let handle = try object(migration, MigrationHandle.self)
    return handle.summary.pointer(to: summary(of: try handle.started()))
  }
}

// MARK: - Private

/// A word of a migration as its number; nil stands for one that is not started.
private func word(
  _ function: StaticString, _ pointer: OpaquePointer?, _ body: (Migration?) -> UInt32
) -> Int32 {
  answer(function) { () throws(CallFailure) in
    let handle = try object(pointer, MigrationHandle.self)
    _ = try handle.loop()
    return Int32(bitPattern: body(handle.migration))
  }
}

/// A text of how it ended; "" before.
private func conclusionText(
  _ function: StaticString, _ pointer: OpaquePointer?,
  _ owner: KeyPath<MigrationHandle, OwnedText>, _ body: (Conclusion) -> String
) -> UnsafePointer<CChar> {
  textAnswer(function) { () throws(CallFailure) in
    let handle = try object(pointer, MigrationHandle.self)
    _ = try handle.loop()
    guard let conclusion = handle.migration?.conclusion else { return constant("") }
    return handle[keyPath: owner].pointer(to: body(conclusion))
  }
}

private func figure(_ number: Int32, of migration: Migration) throws(CallFailure) -> UInt64? {
  let progress = migration.progress
  switch swo_number(rawValue: UInt32(bitPattern: number)) {
  case .SWO_NUMBER_RAM_TOTAL_BYTES: return progress.ramTotalBytes
  case .SWO_NUMBER_RAM_TRANSFERRED_BYTES: return progress.ramTransferredBytes
  case .SWO_NUMBER_RAM_REMAINING_BYTES: return progress.ramRemainingBytes
  case .SWO_NUMBER_RATE_BYTES_PER_SECOND: return progress.rateBytesPerSecond
  case .SWO_NUMBER_PASS: return progress.pass
  case .SWO_NUMBER_DIRTY_BYTES_PER_SECOND: return progress.dirtyBytesPerSecond
  case .SWO_NUMBER_DOWNTIME_LIMIT_MS: return progress.downtimeLimitMilliseconds
  case .SWO_NUMBER_PREDICTED_BLACKOUT_US: return progress.predictedBlackoutMicroseconds
  case .SWO_NUMBER_QEMU_DOWNTIME_MS: return progress.qemuDowntimeMilliseconds
  case .SWO_NUMBER_BLACKOUT_US: return migration.ledger.blackout.map { UInt64(clamping: $0) }
  case .SWO_NUMBER_BLACKOUT_ERROR_US:
    return migration.ledger.blackout.map { _ in UInt64(clamping: migration.ledger.error) }
  case .SWO_NUMBER_TOTAL_TIME_MS: return progress.totalTimeMilliseconds
  default: throw .invalid("number \(number) is no swo_number")
  }
}

private func parts(of migration: Migration) -> [Ledger.Part] {
  migration.conclusion == nil ? [] : migration.ledger.parts
}

/// One line for a log: what happened, who owns the guest, the next step.
private func summary(of migration: Migration) -> String {
  var facts: [String] = []
  if let conclusion = migration.conclusion {
    facts.append(conclusion.failure?.text ?? "\(conclusion.end)")
    if conclusion.end == .completed, let blackout = migration.ledger.blackout {
      let tenths = blackout / 100 + (blackout % 100 < 50 ? 0 : 1)
      facts.append("blackout \(tenths / 10).\(tenths % 10) ms")
    }
  } else {
    facts.append("\(String(cString: swo_phase_name(Int32(migration.phase.word.rawValue))))")
  }
  facts.append("owner: \(migration.owner), guest \(migration.guest)")
  if let nextStep = migration.conclusion?.nextStep, !nextStep.isEmpty {
    facts.append("next: \(nextStep)")
  }
  return "switchover: \(migration.options.name): " + facts.joined(separator: "; ")
}
