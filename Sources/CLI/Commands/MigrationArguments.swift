import ArgumentParser

/// What `migrate` and `check` have in common: which guest goes where, and how.
struct MigrationArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp("The QMP monitor of the QEMU that runs the guest.", valueName: "address"))
  var source: String

  @Option(
    help: ArgumentHelp(
      "The QMP monitor of the QEMU that waits for it (-incoming, best with -S).",
      valueName: "address"))
  var target: String

  @Option(
    help: ArgumentHelp(
      "Where the source connects to, as QEMU writes it: tcp:HOST:PORT, unix:PATH, fd:NAME.",
      valueName: "uri"))
  var uri: String

  @Option(
    help: ArgumentHelp(
      "Where a target started with '-incoming defer' listens, if it is not the uri.",
      valueName: "uri"))
  var incomingUri: String?

  @Option(
    name: .customLong("source-oob"),
    help: ArgumentHelp(
      "A second monitor of the source, for out-of-band commands only.", valueName: "address"))
  var sourceOutOfBand: String?

  @Flag(
    help: "Other programs use the source's monitor too: let them in as long as the guest allows it."
  )
  var sourceShared = false

  @Option(help: ArgumentHelp("What to call the guest in texts.", valueName: "name"))
  var name: String?

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "A migration capability for both sides, such as xbzrle=on; may be repeated.",
      valueName: "name=on|off"))
  var capability: [CapabilitySetting] = []

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "A migration parameter for both sides, such as multifd-channels=4; may be repeated.",
      valueName: "name=json"))
  var parameter: [ParameterSetting] = []

  @OptionGroup var disks: DiskArguments
  @OptionGroup var ssh: SSHArguments

  func validate() throws {
    if disks.yankAfter != nil, sourceOutOfBand == nil {
      throw ValidationError("--yank-after needs --source-oob: nobody else is heard then.")
    }
  }

  /// The plan, with the defaults for everything that these arguments do not say.
  var plan: MigrationPlan {
    var plan = MigrationPlan(
      name: name, source: source, target: target, outOfBandMonitor: sourceOutOfBand, uri: uri,
      incomingURI: incomingUri)
    plan.sourceMonitorIsShared = sourceShared
    plan.tuning.capabilities = capability
    plan.tuning.parameters = parameter
    plan.storage = disks.storage
    plan.ssh = ssh.plan
    return plan
  }
}

/// How much is said, and to whom.
struct ReportArguments: ParsableArguments {
  @Flag(help: "Write one JSON object a line to standard output, for programs.")
  var json = false

  @Flag(name: .shortAndLong, help: "Say nothing unless something goes wrong.")
  var quiet = false

  @Flag(name: .shortAndLong, help: "Tell every step.")
  var verbose = false

  func validate() throws {
    guard [json, quiet, verbose].filter({ $0 }).count <= 1 else {
      throw ValidationError("--json, --quiet and --verbose exclude each other.")
    }
  }

  /// Who tells it.
  var narrator: any Narrator {
    if json { return JSONNarrator() }
    return PersonNarrator(
      style: Style(of: 2), resultStyle: Style(of: 1),
      loudness: quiet ? .quiet : verbose ? .verbose : .normal)
  }
}

/// The command that proves a side dead.
struct FenceArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The command that proves a side dead, or makes it so: exit 0 is proof.",
      valueName: "command"))
  var fenceCommand: String?

  @Option(
    help: ArgumentHelp(
      "How long that command may take: 500ms, 10s, 2m; at most 1h.", valueName: "time"))
  var fenceTimeout = TimeSpan(milliseconds: FenceCommand.timeout)

  func validate() throws {
    guard (1...3_600_000).contains(fenceTimeout.milliseconds) else {
      throw ValidationError("--fence-timeout is at most 1h.")
    }
  }

  var command: FenceCommand? {
    fenceCommand.map {
      FenceCommand(command: $0, timeoutMilliseconds: fenceTimeout.milliseconds)
    }
  }
}

/// The texts that several help pages share.
enum HelpText {
  static let fencing = """
    FENCING
    The command of --fence-command runs once for each side that recovery needs to know dead, with \
    SWO_SIDE (source or target), SWO_MONITOR, SWO_PROCESS (or empty) and SWO_NAME in its environment; \
    in a shell, unless it is the path of a program and plain words. Exit status 0 says that the side \
    cannot run now, nor later by itself. Anything else proves nothing, and neither does a command that \
    takes longer than --fence-timeout, which is ended.
    """

  static let addresses = """
    ADDRESSES
      unix:/path or /path   a unix socket ('-qmp unix:/path,server=on,wait=off')
      tcp:host:port         a TCP socket
      fd:N                  a connected descriptor that this program inherited
      ssh://[user@]host[:port]/path
                            a unix socket of another host, as ssh reaches it
    A monitor serves one client at a time: while another program holds one of \
    them, this one says so and ends.
    """

  static let ssh = """
    ANOTHER HOST
    With a target of ssh://host/path the sockets of --uri unix:PATH and --nbd \
    unix:PATH are that host's as well, and are reached by the same logins: \
    nothing has to be installed there but sshd. libssh2 carries the monitor, the \
    ssh program memory and disks, and each the other's part where it must; \
    --verbose tells. Both follow ssh's own configuration (known hosts, keys, \
    ports, aliases), --ssh-option and --ssh-command. A host key that is unknown \
    or has changed is an error, and nobody is asked for a passphrase.
    """

  static let disks = """
    LOCAL DISKS
    With --disk the target has a disk of the same size behind a node, which is \
    exported over NBD; the source copies into it while the guest writes, and \
    memory travels once all disks are in sync. No write is lost, and the target \
    never runs with an export open. The export has the device's name unless \
    there is another after '='. Where the target's NBD server is started here, \
    the export is made of its node of that name, or of node=NODE.
    --take-over takes a mirror that somebody else has started, by its block \
    job; it is ended after a success, and left alone otherwise. Say \
    write-blocking if it was started so: then the blackout is shorter.
    A dead NBD connection at the switchover holds up QEMU's whole main loop: \
    with --source-oob it is broken after --yank-after, and the guest runs on.
    """

  static let exitStatus = """
    EXIT STATUS
    \(ExitStatus.table)
    """
}
