// Who owns the guest, and what is safe to do next (I2).

extension MigrationEngine {
  /// Who may run the guest now, as far as it is known.
  public var owner: Owner {
    if let conclusion { return conclusion.owner }
    if sourceRanAgain { return targetCannotRun ? .source : .unknown }
    if grant.isConfirmed { return .target }
    if source.status == .completed {
      if sourceResumption == .accepted, source.runState == .running { return .source }
      return grant.mayHaveReached && grant.state != .withHostProgram ? .unknown : .nobody
    }
    if source.isProvenDead { return targetHasLoaded ? .nobody : .source }
    if source.isOutOfReach, migrateSent, !source.status.isFinal { return .unknown }
    return .source
  }

  /// What the guest does now, as far as it is known.
  public var guest: GuestCondition {
    if let conclusion { return conclusion.guest }
    if sourceRanAgain { return targetCannotRun ? guestOnSource : .unknown }
    if guestIsOff { return .off }
    if grant.isConfirmed { return guestOnTarget }
    if source.status == .completed, sourceResumption != .accepted { return .paused }
    return guestOnSource
  }

  /// What became of a guest that the target owns.
  private var guestOnTarget: GuestCondition {
    if target.isProvenDead || target.hasShutDown { return .off }
    return target.runState?.guest ?? .unknown
  }

  var guestOnSource: GuestCondition {
    if guestIsOff || source.isProvenDead || source.hasShutDown { return .off }
    if guestRun.stopUnexplained, source.isConnected, !sourceRanAgain { return .paused }
    return source.runState?.guest ?? .unknown
  }

  // MARK: - Good ends

  func completion() -> Conclusion {
    if sourceRanAgain { return failureConclusion() }
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
    if targetIsGone { return conclusionOfLostCopy }
    if guestOnTarget == .off {
      return Conclusion(
        end: .failed, owner: .target, guest: .off,
        failure: Failure(.guestOff, text: "the guest powered off, or was shut down, on its way"),
        nextStep: "start the guest afresh on the target; the source must not be resumed")
    }
    if guestRun.verdict == .unsettled {
      return Conclusion(
        end: .failed, owner: .target, guest: guestOnTarget,
        failure: Failure(
          .notResumed, side: .target,
          text: "target has the guest, paused: whether it ran before the switchover is unknown"),
        nextStep: "if the guest was running, 'cont' on the target"
          + (source.hasEnded ? "" : "; then end the source's QEMU"))
    }
    return Conclusion(
      end: .completed, owner: .target, guest: guestOnTarget,
      nextStep: nextStepForKeptSource)
  }

  /// It was not granted, and ended: its copy of the guest is gone, and the source's is as good.
  private var conclusionOfLostCopy: Conclusion {
    Conclusion(
      end: .failed, owner: .nobody, guest: .unknown,
      failure: Failure(
        .targetGone, side: .target, text: "target's QEMU ended with the guest, which stood there"),
      nextStep: "unless the guest was resumed there meanwhile, the source has it whole, paused: "
        + "switchover recover")
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
        end: owner == .unknown ? .unknown : end, owner: owner, guest: guest,
        failure: sourceRanAgain ? resumedElsewhere : undoReason,
        nextStep: nextStep)
    }
    if sourceRanAgain { return conclusionWithSourceThatRanAgain(failed) }
    if guestIsOff {
      return failed(
        .source, .off,
        source.isSilent
          ? "end both QEMUs; start the guest afresh where its configuration is"
          : "start the guest afresh where its configuration is; end the target", end)
    }
    if grant.targetRuns {
      return target.isProvenDead
        ? failed(.target, .off, Self.nextStepAfterCrash, end)
        : failed(.target, guestOnTarget, "end the source's QEMU", end)
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
    if targetHasLoaded, !sourceKeptGuest {
      return grant.mayHaveReached
        ? failed(.unknown, .unknown, "ask query-status on the target: switchover recover", end)
        : failed(.nobody, .paused, "the target has the guest, paused: switchover recover", end)
    }
    if targetMayHaveLoadedUnheard {
      return failed(
        .nobody, .unknown,
        "the source's QEMU is gone, and nobody heard whether the target has the whole guest: switchover "
          + "recover", end)
    }
    return failed(
      .source, .off,
      "the guest died with its QEMU: start it afresh on the source, and end the target's QEMU", end)
  }

  /// Its migration failed or was cancelled, and it let the guest run on: the target's copy is of the past.
  var sourceKeptGuest: Bool { source.status == .failed || source.status == .cancelled }

  /// It was disarmed and never granted, so that it does not run, but it may hold all that there is.
  private var targetMayHaveLoadedUnheard: Bool {
    guard migrateSent, !target.hasEnded, target.status != .failed, !sourceKeptGuest else {
      return false
    }
    return targetIsUnheard || !target.isConnected
  }

  private func conclusionAfterCompleted(
    _ failed: (Owner, GuestCondition, String, MigrationEnd) -> Conclusion
  ) -> Conclusion {
    switch sourceResumption {
    case .accepted:
      return failed(.source, guestOnSource, nextStepForTarget, .failed)
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
    let mayHaveRun = grant.mayHaveReached && target.status != .failed
    if mayHaveRun, target.hasExited, !grantWasHeardToTheEnd {
      return failed(
        .nobody, .unknown,
        "the guest may have run on the target before its QEMU ended: start it afresh rather than resume "
          + "the source", .failed)
    }
    if mayHaveRun, grant.state != .withHostProgram || !handOver.isWithSource {
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
    if guestRun.verdict != .ran, targetIsProvenUnableToRun {
      return failed(.source, .paused, "'cont' on the source when the guest is to run", .failed)
    }
    return failed(.nobody, .paused, "switchover recover", .failed)
  }

  /// Somebody resumed a source that had sent its guest.
  private func conclusionWithSourceThatRanAgain(
    _ failed: (Owner, GuestCondition, String, MigrationEnd) -> Conclusion
  ) -> Conclusion {
    guard targetCannotRun, !source.quitAccepted else {
      return failed(
        .unknown, .unknown,
        "the guest may have run on both QEMUs: stop both, and decide which one's disks count",
        .unknown)
    }
    if guestOnSource == .off {
      return failed(
        .source, .off,
        "start the guest afresh on the source, and end the target's QEMU: what it has is out of date",
        .failed)
    }
    let moved = handOver.isWithSource ? "" : "the guest is on the source: move ownership back to it"
    let steps = [moved, nextStepForTarget].filter { !$0.isEmpty }
    return failed(.source, guestOnSource, steps.joined(separator: "; "), .failed)
  }

  private var nextStepForTarget: String {
    if target.hasEnded { return "" }
    guard targetDisarmed || migrateSent else { return "" }
    let exports = mirrors.exportsOnTarget.map { "'\($0)'" }.joined(separator: ", ")
    let leftover = exports.isEmpty ? "" : " (it has the exports \(exports))"
    return "end the target's QEMU before trying again\(leftover)"
  }
}
