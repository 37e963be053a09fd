// Who owns the guest, and what is safe to do next (I2).

extension MigrationEngine {
  /// Who may run the guest now, as far as it is known.
  public var owner: Owner {
    if let conclusion { return conclusion.owner }
    if grant.isConfirmed { return .target }
    if source.status == .completed {
      if sourceResumption == .accepted, source.runState == .running { return .source }
      return grant.mayHaveReached && grant.state != .withHostProgram ? .unknown : .nobody
    }
    if source.isProvenDead { return target.status == .completed ? .nobody : .source }
    if source.isOutOfReach, migrateSent, !source.status.isFinal { return .unknown }
    return .source
  }

  /// What the guest does now, as far as it is known.
  public var guest: GuestCondition {
    if let conclusion { return conclusion.guest }
    if guestIsOff { return .off }
    if grant.isConfirmed { return guestOnTarget }
    if source.status == .completed, sourceResumption != .accepted { return .paused }
    return guestOnSource
  }

  /// What became of a guest that has run on the target.
  private var guestOnTarget: GuestCondition {
    if target.isProvenDead || target.hasShutDown { return .off }
    return target.runState == .paused ? .paused : .running
  }

  var guestOnSource: GuestCondition {
    if guestIsOff || source.isProvenDead { return .off }
    switch source.runState {
    case .running: return guestRun.stopUnexplained ? .paused : .running
    case .suspended, .paused, .ioError, .guestPanicked, .internalError, .watchdog, .finishMigrate,
      .postmigrate:
      return .paused
    case .shutdown: return .off
    default: return .unknown
    }
  }

  // MARK: - Good ends

  func completion() -> Conclusion {
    if grant.isConfirmed {
      let hasCrashed = target.isProvenDead && !target.hasShutDown
      return Conclusion(
        end: .completed, owner: .target, guest: guestOnTarget,
        nextStep: hasCrashed ? Self.nextStepAfterCrash : nextStepForKeptSource)
    }
    if options.handOver == .external {
      return Conclusion(
        end: .completed, owner: .nobody, guest: .paused,
        nextStep: "target loaded and paused: the host program resumes it")
    }
    if guestRun.verdict == .unsettled {
      return Conclusion(
        end: .failed, owner: .target, guest: .paused,
        failure: Failure(
          .notResumed, side: .target,
          text: "target has the guest, paused: whether it ran before the switchover is unknown"),
        nextStep: "if the guest was running, 'cont' on the target"
          + (source.hasEnded ? "" : "; then end the source's QEMU"))
    }
    return Conclusion(
      end: .completed, owner: .target, guest: .paused,
      nextStep: nextStepForKeptSource)
  }

  private var nextStepForKeptSource: String {
    source.hasEnded ? "" : "end the source's QEMU: it must not be resumed"
  }

  private static let nextStepAfterCrash =
    "the guest ran on the target: start it afresh there; the source must not be resumed"

  // MARK: - Other ends

  func failureConclusion() -> Conclusion {
    let end: MigrationEnd = undoReason == nil ? .cancelled : .failed
    func failed(
      _ owner: Owner, _ guest: GuestCondition, _ nextStep: String, _ end: MigrationEnd
    ) -> Conclusion {
      Conclusion(
        end: owner == .unknown ? .unknown : end, owner: owner, guest: guest, failure: undoReason,
        nextStep: nextStep)
    }
    if guestIsOff {
      return failed(
        .source, .off, "start the guest afresh where its configuration is; end the target", end)
    }
    if grant.targetRuns {
      return target.isProvenDead
        ? failed(.target, .off, Self.nextStepAfterCrash, end)
        : failed(.target, .running, "end the source's QEMU", end)
    }
    if source.isProvenDead { return conclusionWithDeadSource(failed) }
    if source.status == .completed { return conclusionAfterCompleted(failed) }
    if source.isOutOfReach, migrateSent, !source.status.isFinal {
      return failed(
        .unknown, .unknown, "reach the source's monitor, and ask query-status: switchover recover",
        end)
    }
    return failed(.source, guestOnSource, nextStepForTarget, end)
  }

  private func conclusionWithDeadSource(
    _ failed: (Owner, GuestCondition, String, MigrationEnd) -> Conclusion
  ) -> Conclusion {
    let end: MigrationEnd = .failed
    if target.status == .completed {
      return grant.mayHaveReached
        ? failed(.unknown, .unknown, "ask query-status on the target: switchover recover", end)
        : failed(.nobody, .paused, "the target has the guest, paused: switchover recover", end)
    }
    return failed(
      .source, .off,
      "the guest died with its QEMU: start it afresh on the source, and end the target's QEMU", end)
  }

  private func conclusionAfterCompleted(
    _ failed: (Owner, GuestCondition, String, MigrationEnd) -> Conclusion
  ) -> Conclusion {
    switch sourceResumption {
    case .accepted:
      return failed(.source, .running, nextStepForTarget, .failed)
    case .sent, .lost:
      return failed(
        .unknown, .unknown, "ask query-status on the source: whether it took 'cont' is unknown",
        .unknown)
    case .notTried, .refused:
      break
    }
    if case .refused = grant.state {
      return failed(
        .nobody, .paused,
        "find out who holds the image, then 'cont' on the target, or switchover recover", .failed)
    }
    if grant.mayHaveReached, target.hasExited, !grantConnectionIsUnbroken {
      return failed(
        .nobody, .off,
        "the guest may have run on the target before its QEMU ended: start it afresh rather than resume "
          + "the source", .failed)
    }
    if grant.mayHaveReached, grant.state != .withHostProgram || !handOver.isWithSource {
      return failed(
        .unknown, .unknown,
        "prove the target's QEMU dead or fence it before the source is resumed: switchover recover",
        .unknown)
    }
    if !handOver.isWithSource {
      return failed(
        .nobody, .paused,
        "settle where the cluster believes the guest to be, then resume that side: switchover recover",
        .failed)
    }
    if case .stood = guestRun.verdict, targetIsProvenUnableToRun {
      return failed(.source, .paused, "'cont' on the source when the guest is to run", .failed)
    }
    return failed(.nobody, .paused, "switchover recover", .failed)
  }

  private var nextStepForTarget: String {
    if target.hasEnded { return "" }
    guard targetDisarmed || migrateSent else { return "" }
    let exports = mirrors.exportsOnTarget.map { "'\($0)'" }.joined(separator: ", ")
    let leftover = exports.isEmpty ? "" : " (it has the exports \(exports))"
    return "end the target's QEMU\(leftover) before trying again"
  }
}
