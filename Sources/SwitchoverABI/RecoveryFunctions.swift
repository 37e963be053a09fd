// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import MigrationSession
import Runtime

@c @implementation
public func swo_recovery_new(
  _ loop: OpaquePointer?, _ recovery_out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer("swo_recovery_new") { () throws(CallFailure) in
    guard let recovery_out else { throw .invalid("recovery_out is NULL") }
    recovery_out.pointee = nil
    recovery_out.pointee = handle(owning: RecoveryHandle(in: try usableLoop(loop)))
    return 0
  }
}

@c @implementation
public func swo_recovery_free(_ recovery: OpaquePointer?) {
  release(recovery, RecoveryHandle.self)
}

@c @implementation
public func swo_recovery_set_journal(
  _ recovery: OpaquePointer?, _ path: UnsafePointer<CChar>?
) -> Int32 {
  change("swo_recovery_set_journal", recovery) { draft throws(CallFailure) in
    draft.journalPath = try absolutePath(path, "path")
  }
}

@c @implementation
public func swo_recovery_set_monitor(
  _ recovery: OpaquePointer?, _ side: Int32, _ address: UnsafePointer<CChar>?
) -> Int32 {
  change("swo_recovery_set_monitor", recovery) { draft throws(CallFailure) in
    let side = try Side(word: side)
    let isLeft = try text(address, "address").isEmpty
    let monitor = isLeft ? RecoveryDraft.Monitor.left : .named(try endpoint(address, "address"))
    switch side {
    case .source: draft.sourceMonitor = monitor
    case .target: draft.targetMonitor = monitor
    }
  }
}

@c @implementation
public func swo_recovery_set_oob_monitor(
  _ recovery: OpaquePointer?, _ address: UnsafePointer<CChar>?
) -> Int32 {
  change("swo_recovery_set_oob_monitor", recovery) { draft throws(CallFailure) in
    draft.sourceOutOfBand = try endpoint(address, "address")
  }
}

@c @implementation
public func swo_recovery_set_fenced(_ recovery: OpaquePointer?, _ side: Int32) -> Int32 {
  change("swo_recovery_set_fenced", recovery) { draft throws(CallFailure) in
    switch try Side(word: side) {
    case .source: draft.options.source.isFenced = true
    case .target: draft.options.target.isFenced = true
    }
  }
}

@c @implementation
public func swo_recovery_set_ownership(_ recovery: OpaquePointer?, _ side: Int32) -> Int32 {
  change("swo_recovery_set_ownership", recovery) { draft throws(CallFailure) in
    switch swo_side(rawValue: UInt32(bitPattern: side)) {
    case .SWO_SIDE_NONE: draft.options.cluster = RecoverySituation.Cluster.none
    case .SWO_SIDE_SOURCE: draft.options.cluster = .source
    case .SWO_SIDE_TARGET: draft.options.cluster = .target
    default: throw .invalid("side \(side) is no swo_side")
    }
  }
}

@c @implementation
public func swo_recovery_set_guest_ran(_ recovery: OpaquePointer?, _ ran: Int32) -> Int32 {
  change("swo_recovery_set_guest_ran", recovery) { draft throws(CallFailure) in
    draft.options.guestRan = try flag(ran, "ran")
  }
}

@c @implementation
public func swo_recovery_set_target_never_ran(_ recovery: OpaquePointer?) -> Int32 {
  change("swo_recovery_set_target_never_ran", recovery) { draft throws(CallFailure) in
    draft.options.targetNeverRan = true
  }
}

@c @implementation
public func swo_recovery_set_dry_run(_ recovery: OpaquePointer?, _ on: Int32) -> Int32 {
  change("swo_recovery_set_dry_run", recovery) { draft throws(CallFailure) in
    draft.options.isDryRun = try flag(on, "on")
  }
}

@c @implementation
public func swo_recovery_set_settle_limit(
  _ recovery: OpaquePointer?, _ milliseconds: UInt32
) -> Int32 {
  change("swo_recovery_set_settle_limit", recovery) { draft throws(CallFailure) in
    guard milliseconds <= 3_600_000 else {
      throw .invalid("\(milliseconds) ms is not in 0…3600000")
    }
    draft.options.settleLimit = .milliseconds(Int64(milliseconds))
  }
}

@c @implementation
public func swo_recovery_start(_ recovery: OpaquePointer?) -> Int32 {
  answer("swo_recovery_start") { () throws(CallFailure) in
    let handle = try object(recovery, RecoveryHandle.self)
    let loop = try handle.loop()
    guard handle.recovery == nil else { throw .state("the recovery is started already") }
    var content: RecoveryJournal?
    if let path = handle.draft.journalPath { content = try journal(at: path) }
    let configuration = try handle.draft.configuration(content)
    let recovery: Recovery
    do throws(MigrationSetupError) {
      recovery = try Recovery(in: loop, configuration: configuration, journal: content)
    } catch {
      throw CallFailure(error)
    }
    handle.begin(recovery)
    try onLoop { () throws(LoopError) in try recovery.request(.start) }
    return 0
  }
}

@c @implementation
public func swo_recovery_run(_ recovery: OpaquePointer?, _ timeout_ms: Int32) -> Int32 {
  answer("swo_recovery_run") { () throws(CallFailure) in
    let handle = try object(recovery, RecoveryHandle.self)
    let recovery = try handle.started()
    let loop = try handle.loop()
    let isDone = try onLoop { () throws(LoopError) in
      try loop.run(forMilliseconds: Int64(timeout_ms)) { recovery.isFinished }
    }
    return isDone ? 1 : 0
  }
}

// MARK: - Private

/// Changes the draft of a recovery that is not started.
private func change(
  _ function: StaticString, _ recovery: OpaquePointer?,
  _ body: (inout RecoveryDraft) throws(CallFailure) -> Void
) -> Int32 {
  answer(function) { () throws(CallFailure) in
    let handle = try object(recovery, RecoveryHandle.self)
    _ = try handle.loop()
    guard handle.recovery == nil else { throw .state("the recovery is started already") }
    // A setter that fails leaves everything as it was.
    var draft = handle.draft
    try body(&draft)
    handle.draft = draft
    return 0
  }
}
