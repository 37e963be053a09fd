/// What recovery knows of a pair of QEMUs, as far as the decision depends on it.
///
/// Every combination has a row in the recovery table.
public struct RecoverySituation: Hashable, Sendable {
  /// What the source's QEMU does.
  public enum Source: Hashable, Sendable, CaseIterable {
    /// The guest runs, and no migration is on its way.
    case runs
    /// The guest stands for a reason of its own (`paused`, `io-error`, …), and none is on its way.
    case stands
    /// A migration is on its way, and its switchover has not begun.
    case transferring
    /// The switchover waits for `migrate-continue`; the guest stands.
    case preSwitchover
    /// The guest stands and QEMU has not decided yet. So is everything that this version does not
    /// know (I7).
    case switchingOver
    /// It has sent everything and stands for good (`postmigrate`).
    case completed
    /// The guest has powered off.
    case off
    /// Its process has ended, or is fenced.
    case dead
    /// It does not answer, or it is not the QEMU of this migration.
    case unreachable
  }

  /// What the target's QEMU does.
  public enum Target: Hashable, Sendable, CaseIterable {
    case runs
    /// It has the whole guest, and stands.
    case loaded
    /// It has the whole guest, and the source holds writes that its disks have not got yet.
    case incomplete
    /// It has the whole guest, which stands for a reason of its own (`io-error`, …).
    case stands
    /// It has not loaded the guest yet (`inmigrate`), and has been disarmed.
    case waiting
    /// Its load failed: it can never run this guest.
    case failed
    /// The guest has powered off there.
    case off
    case dead
    case unreachable
  }

  /// Where the host program's cluster believes the guest to be.
  public enum Cluster: Hashable, Sendable, CaseIterable {
    /// There is no cluster, or its belief follows the guest.
    case none
    case source
    case target
    case unknown
  }

  /// Whether the guest ran when it was switched over (I8).
  public enum GuestRun: Hashable, Sendable, CaseIterable {
    case ran
    case stood
    case unknown
  }

  /// Whether the guest may have run on the target before now.
  public enum TargetPast: Hashable, Sendable, CaseIterable {
    case neverRan
    case mayHaveRun
  }

  public var source: Source
  public var target: Target
  public var cluster: Cluster
  public var guestRun: GuestRun
  public var targetPast: TargetPast

  public init(
    source: Source, target: Target, cluster: Cluster, guestRun: GuestRun, targetPast: TargetPast
  ) {
    self.source = source
    self.target = target
    self.cluster = cluster
    self.guestRun = guestRun
    self.targetPast = targetPast
  }

  /// Every combination there is.
  public static var all: [RecoverySituation] {
    var all: [RecoverySituation] = []
    for source in Source.allCases {
      for target in Target.allCases {
        for cluster in Cluster.allCases {
          for guestRun in GuestRun.allCases {
            for targetPast in TargetPast.allCases {
              all.append(
                RecoverySituation(
                  source: source, target: target, cluster: cluster, guestRun: guestRun,
                  targetPast: targetPast))
            }
          }
        }
      }
    }
    return all
  }
}
