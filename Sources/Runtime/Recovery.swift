import MigrationEngine
import MigrationSession
import Platform

/// One recovery in a loop.
public final class Recovery: SessionMember<RecoverySession> {
  /// Looks the monitors' addresses up, which may block on a name; nothing is connected yet.
  ///
  /// - Parameters:
  ///   - configuration: the host program's words, and the monitors; what the journal says is added.
  ///   - journal: it stays locked until the end, and gets the outcome.
  public init(
    in loop: Loop, configuration: RecoveryConfiguration, journal: RecoveryJournal? = nil
  ) throws(MigrationSetupError) {
    var configuration = configuration
    if let journal {
      configuration.record = journal.record
      configuration.options.source.isProvenDead = journal.processHasEnded(.source)
      configuration.options.target.isProvenDead = journal.processHasEnded(.target)
    }
    let routes = try Route.all(
      to: [
        (.sourceMonitor, configuration.sourceMonitor),
        (.targetMonitor, configuration.targetMonitor),
        (.sourceOutOfBand, configuration.sourceOutOfBand),
      ], in: loop)
    super.init(
      in: loop, session: RecoverySession(configuration: configuration), routes: routes,
      journal: journal?.file)
  }

  /// Set when it has ended.
  public var conclusion: RecoveryConclusion? { session.conclusion }
}
