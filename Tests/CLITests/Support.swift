import CSwitchover

@testable import CLI

extension MigrationSnapshot {
  /// A migration whose memory travels.
  static var transferring: MigrationSnapshot {
    var snapshot = MigrationSnapshot(
      phase: Word(code: swo_phase.SWO_PHASE_TRANSFERRING.number, name: "transferring"),
      end: Word(code: 0, name: "none"), owner: Word(code: 1, name: "source"),
      guest: Word(code: 1, name: "running"))
    snapshot.figures[.ramTotalBytes] = 256 << 20
    snapshot.figures[.ramTransferredBytes] = 190 << 20
    snapshot.figures[.ramRemainingBytes] = 64 << 20
    snapshot.figures[.rateBytesPerSecond] = 118 << 20
    snapshot.figures[.pass] = 2
    snapshot.figures[.predictedBlackoutMicroseconds] = 14_200
    return snapshot
  }

  /// One whose disks are copied before its memory travels.
  static var mirroring: MigrationSnapshot {
    var snapshot = transferring
    snapshot.phase = Word(code: swo_phase.SWO_PHASE_MIRRORING.number, name: "mirroring")
    snapshot.figures = Figures()
    snapshot.disks = [
      DiskFigures(device: "d0", copiedBytes: 64 << 20, totalBytes: 64 << 20),
      DiskFigures(device: "d1", copiedBytes: 32 << 20, totalBytes: 128 << 20),
    ]
    return snapshot
  }

  /// One that completed with a blackout of 3.214 ms.
  static var completed: MigrationSnapshot {
    var snapshot = transferring
    snapshot.phase = Word(code: swo_phase.SWO_PHASE_ENDED.number, name: "ended")
    snapshot.end = Word(code: 1, name: "completed")
    snapshot.owner = Word(code: 2, name: "target")
    snapshot.figures[.blackoutMicroseconds] = 3214
    snapshot.figures[.blackoutErrorMicroseconds] = 120
    snapshot.figures[.qemuDowntimeMilliseconds] = 2
    snapshot.ledger = [
      LedgerPart(
        name: "last RAM and device state", startMicroseconds: 0, lengthMicroseconds: 2101),
      LedgerPart(name: "grant on its way", startMicroseconds: 2101, lengthMicroseconds: 143),
      LedgerPart(name: "activation", startMicroseconds: 2244, lengthMicroseconds: 970),
    ]
    snapshot.summary =
      "switchover: vm 100: completed; blackout 3.2 ms; owner: target, guest running"
    return snapshot
  }

  /// One that failed with the guest on nobody's side.
  static var refused: MigrationSnapshot {
    var snapshot = transferring
    snapshot.phase = Word(code: swo_phase.SWO_PHASE_ENDED.number, name: "ended")
    snapshot.end = Word(code: 3, name: "failed")
    snapshot.owner = Word(code: 3, name: "nobody")
    snapshot.guest = Word(code: 2, name: "paused")
    snapshot.failure = FailureReport(
      code: 15, name: "not-resumed", side: "target", command: "cont",
      errorClass: "GenericError",
      text: "target refused 'cont': Failed to get \"write\" lock")
    snapshot.nextStep = "find out who holds the image, then 'cont' on the target"
    snapshot.summary =
      "switchover: vm 100: target refused 'cont': Failed to get \"write\" lock; owner: nobody, guest "
      + "paused; next: find out who holds the image, then 'cont' on the target"
    return snapshot
  }
}
