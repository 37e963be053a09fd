import CSwitchover
import DemoGuest
import Foundation
import QEMUHarness
import Testing

extension RealQEMUs {
  /// The way by ssh is cut in a phase, for good or for a moment; whatever then happens, the owner that
  /// is told is the one that has the guest, and there never are two (I1, I2).
  @Suite("A way by ssh that is cut")
  struct TunnelCuts {
    struct Cut: Sendable, CustomTestStringConvertible {
      var phase: swo_phase
      var hasDisk = false
      var comesBack = false
      var carrier: swo_ssh_carrier

      var testDescription: String {
        "\(String(cString: swo_phase_name(Int32(phase.rawValue)))), carrier \(carrier.rawValue)"
          + (hasDisk ? ", disk" : "") + (comesBack ? ", comes back" : "")
      }
    }

    /// `TunnelLosses` has what needs more words; here `SWO_LONG` tries everything.
    static let cuts: [Cut] = {
      if ProcessInfo.processInfo.environment["SWO_LONG"] != nil {
        return (swo_phase.SWO_PHASE_CONNECTING.rawValue...swo_phase.SWO_PHASE_FINISHING.rawValue)
          .compactMap(swo_phase.init(rawValue:))
          .flatMap { phase in
            carriers.flatMap { carrier in
              [(false, false), (false, true), (true, false), (true, true)].map {
                Cut(phase: phase, hasDisk: $0.0, comesBack: $0.1, carrier: carrier)
              }
            }
          }
      }
      return [
        Cut(phase: .SWO_PHASE_SWITCHING_OVER, carrier: .SWO_SSH_LIBSSH2),
        Cut(phase: .SWO_PHASE_SWITCHING_OVER, carrier: .SWO_SSH_SYSTEM),
        Cut(phase: .SWO_PHASE_SWITCHING_OVER, hasDisk: true, carrier: .SWO_SSH_LIBSSH2),
        Cut(phase: .SWO_PHASE_SWITCHING_OVER, hasDisk: true, carrier: .SWO_SSH_SYSTEM),
        Cut(
          phase: .SWO_PHASE_HANDING_OVER, hasDisk: true, comesBack: true, carrier: .SWO_SSH_AUTO),
        Cut(phase: .SWO_PHASE_ACTIVATING, hasDisk: true, carrier: .SWO_SSH_AUTO),
      ]
    }()

    @Test("leaves one owner, who is named", arguments: cuts)
    func cut(_ cut: Cut) throws {
      // In the switchover the memory that is left has to be much.
      let isHeldUp = cut.phase == .SWO_PHASE_SWITCHING_OVER
      let situation = try TunnelSituation {
        if isHeldUp { Situation.busyGuest(&$0) }
        guard cut.hasDisk else { return }
        $0.common.guest.disks = GuestImage.DiskLoad(sectors: 500)
        $0.disks = [QEMUPair.DiskOptions()]
      }
      let migration = try situation.migration(cut.carrier, .SWO_HAND_OVER_BEFORE_RESUME) {
        if isHeldUp { Situation.slow(&$0) }
        $0.reconnectLimit = cut.comesBack ? 30_000 : 1500
        guard cut.hasDisk else { return }
        $0.nbd = "unix:\(situation.base.directory.file("nbd.sock"))"
        $0.disks = [QEMUProcess.nodeName(disk: 0)]
      }
      let isHandedOver = try reach(cut.phase, situation, migration)
      if !cut.comesBack { situation.relay.setRefusing(true) }
      situation.relay.cut()
      situation.relay.setStalled(false)
      try finish(situation, migration, isHandedOver: isHandedOver)
      situation.expectNothingLeft(of: migration)
    }

    /// Gets into a phase, and stays there where that takes more than an instant; whether ownership has
    /// been handed over.
    private func reach(
      _ phase: swo_phase, _ situation: TunnelSituation, _ migration: MigrationUnderTest
    ) throws -> Bool {
      func pump(to phase: swo_phase) throws {
        try migration.pump { $0.phase.rawValue >= phase.rawValue || $0.isFinished }
      }
      try migration.start()
      guard phase.rawValue > swo_phase.SWO_PHASE_TRANSFERRING.rawValue else {
        try pump(to: phase)
        return false
      }
      try pump(to: .SWO_PHASE_TRANSFERRING)
      if phase == .SWO_PHASE_SWITCHING_OVER {
        // The last of the memory is under way, and the source waits for the target's word.
        situation.relay.change(.forward) { $0.isStalled = true }
        try situation.base.letTransferEnd()
        try pump(to: phase)
        return false
      }
      try migration.pumpUntilHandOverIsWanted()
      guard phase.rawValue > swo_phase.SWO_PHASE_HANDING_OVER.rawValue else { return false }
      if phase == .SWO_PHASE_ACTIVATING {
        // The grant arrives, and its answer does not.
        situation.relay.change(.backward) { $0.isStalled = true }
      }
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      try pump(to: phase)
      if phase == .SWO_PHASE_ACTIVATING {
        let target = situation.base.target.monitor
        try migration.pump { _ in try target.runState() == "running" }
      }
      return true
    }

    private func finish(
      _ situation: TunnelSituation, _ migration: MigrationUnderTest, isHandedOver: Bool
    ) throws {
      var isHandedOver = isHandedOver
      try migration.pump(upTo: .seconds(120)) { migration in
        if !isHandedOver, !migration.isFinished, migration.handOversWanted > 0 {
          isHandedOver = true
          try migration.handedOver(.SWO_HAND_OVER_DONE)
        }
        return migration.isFinished || migration.warnings.contains { $0.contains("did not come") }
      }
      let base = situation.base
      let outcome = migration.outcome
      switch outcome.owner {
      case .SWO_OWNER_SOURCE: base.expectGuestRuns(on: .source)
      case .SWO_OWNER_TARGET: base.expectGuestRuns(on: .target)
      case .SWO_OWNER_NOBODY: base.expectGuestStands()
      default:
        let running = Side.allCases.filter {
          (try? base.pair.process($0).monitor.runState()) == "running"
        }
        #expect(running.count < 2)
      }
      if migration.isFinished {
        #expect(outcome.owner != .SWO_OWNER_UNKNOWN, "\(outcome)")
        return
      }
      // Nobody can know: the target is fenced, and the source gets the guest back.
      #expect(outcome.owner == .SWO_OWNER_UNKNOWN, "\(outcome)")
      base.target.close()
      try migration.fenced(.SWO_SIDE_TARGET)
      if isHandedOver { try migration.handedBack() }
      let end = try migration.finish(upTo: .seconds(120))
      #expect(end.owner == .SWO_OWNER_SOURCE && end.guest == .SWO_GUEST_RUNNING, "\(end)")
      // From where it stood: what it did on the target since then is gone with that.
      #expect(base.pair.ticks.isTicking(.source))
    }
  }
}
