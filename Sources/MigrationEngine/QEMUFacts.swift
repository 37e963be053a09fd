/// What is known of one QEMU, from its monitor, from the kernel and from the host program.
struct QEMUFacts: Sendable {
  var release: QEMURelease?
  var isConnected = false
  /// When its monitor said something last, a greeting, an answer or an event.
  var heardAt: MonotonicInstant?
  /// It was given up, connected as it was, for it said nothing any more.
  var isSilent = false
  /// Commands can be sent out of band.
  var outOfBandIsReady = false
  /// Why its monitor was given up; nil while it is connected or being tried.
  var trouble: MonitorTrouble?
  /// At the end it was told what is left for it: its settings, or to quit.
  var isDismissed = false
  /// It was told to `quit`, and said that it will.
  var quitAccepted = false
  /// SHUTDOWN: its guest powered off, or was ended by somebody.
  var hasShutDown = false
  /// The kernel says that its process is gone.
  var hasExited = false
  /// Its monitor ended with its process, and not before: nothing that it said was missed.
  var isHeardToTheEnd = false
  /// The host program says that it cannot run.
  var isFenced = false
  /// What `query-status` said last, kept up to date by STOP and RESUME.
  var runState: RunState?
  /// This migration's status, as this side sees it.
  var status = MigrationStatus.none
  /// QEMU's own words for a failed migration.
  var errorDescription: String?

  /// It cannot run now, nor later by itself.
  var isProvenDead: Bool { hasExited || isFenced }
  /// It was ended by us, or is known to be gone otherwise.
  var hasEnded: Bool { isProvenDead || (quitAccepted && !isConnected) }
  /// Nothing more is to be heard from it.
  var isOutOfReach: Bool { !isConnected && (isProvenDead || trouble != nil) }
}
