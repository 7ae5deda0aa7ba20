#!/usr/bin/env bash
# Brings everything up on Google Cloud, and updates it: ./deploy.sh --help
# Written for bash 3.2, which is what macOS has.
set -feuo pipefail

usage() {
	cat <<'HELP'
Deploys the function to Cloud Run, with its Firestore database, or updates it.

  ./deploy.sh --project ID --portal mycompany.bitrix24.com      first time, and again
  ./deploy.sh --project ID --portal ... --dry-run               only say what would be done

Which deployment (give these the same each time)
  --project ID          Google Cloud project, with billing
  --region REGION       where the function runs (default europe-west1)
  --service NAME        its name, at most 24 characters (default bitrix24-deletions);
                        one region for each name in a project

What it accepts and keeps
  --portal DOMAIN       portal whose installs are accepted; repeat it, or separate with commas
  --client-id ID        accept installs of this application from any portal
                        (a first deployment needs --portal or --client-id)
  --connectors IDS      connectors to record, separated by commas (default: all)
  --retention-days N    delete records after N days (default: keep for ever)

Where it keeps it
  --database NAME       Firestore database (default "(default)")
  --location LOCATION   where to create it, for ever (default: the region)
  --backups             daily backups, each kept for 7 days

How much
  --concurrency N       requests at once in one instance, and its threads (default 32)
  --max-instances N     instances at most: the limit of what an attack can cost (default 3)

Watching it
  --alert-email ADDRESS alerts by e-mail: a deletion not recorded, an install refused
  --uptime-check        call /health every 5 minutes, and alert too if --alert-email is given

Instead of deploying for everybody (at most one)
  --canary              deploy without traffic, at an address of its own
  --promote             give the canary all traffic
  --rollback[=REVISION] give all traffic to the revision before, or to the one named
  --destroy             take the service down and keep the data

  --dry-run             read what is there, print each command that would change something, in
                        order, and run none of them
  --help

Running it again updates the code. What you leave out stays as it is: --portal, --client-id,
--connectors, --retention-days, --database, --concurrency and --max-instances are changed only when
given. A --portal list replaces the one before; an empty --portal, --client-id, --connectors or
--retention-days clears it. Other environment variables of the service stay too; CPU, memory and the
like are set anew each time. Backups, alerts and checks, once made, stay. If a run stops in the
middle, run it again.

Each option is also an environment variable: DEPLOY_PROJECT=ID, DEPLOY_MAX_INSTANCES=5,
DEPLOY_BACKUPS=1, DEPLOY_DRY_RUN=1, DEPLOY_ROLLBACK=1 or a revision; options win.
HELP
}

# The oldest Google Cloud CLI whose parser has accepted every command below.
OLDEST_GCLOUD=528

STEP=""
HINT=""
WORK="$(mktemp -d)"

finish() {
	local code=$?
	rm -rf "$WORK"
	if [ "$code" -ne 0 ] && [ -n "$STEP" ]; then
		say_error "Stopped at: $STEP." ${HINT:+"$HINT"} \
			"Nothing has to be undone: the same command, run again, completes it."
	fi
}
trap finish EXIT

say_error() { printf '%s\n' "$@" >&2; }

# For a reason that says itself what to do.
die() {
	STEP=""
	say_error "$@"
	exit 1
}

wrong_usage() {
	STEP=""
	say_error "$@" "./deploy.sh --help lists the options."
	exit 2
}

# For gcloud's own message; the step's hint follows.
gcloud_failed() {
	cat "$WORK/error" >&2
	exit 1
}

# step WHAT [WHAT TO DO IF IT FAILS]
step() {
	STEP="$1"
	HINT="${2:-}"
	printf '\n%s\n' "$STEP"
}

note() { printf '  %s\n' "$@"; }

dry() { on "$DEPLOY_DRY_RUN"; }

on() { [ -n "$1" ] && [ "$1" != 0 ]; }

# ---------------------------------------------------------------- commands

quoted() {
	case $1 in
	*[!A-Za-z0-9_./:@=,+%-]* | "") printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
	*) printf '%s' "$1" ;;
	esac
}

# A command as it could be pasted: on one line if it is short, else with a line for each option.
show() {
	local line="" word separator=" "
	if [ "$(printf '%s ' "$@" | wc -c)" -gt 100 ]; then separator=$' \\\n      '; fi
	for word in "$@"; do
		case $word in
		--*) line="$line$separator$(quoted "$word")" ;;
		*) line="$line${line:+ }$(quoted "$word")" ;;
		esac
	done
	printf '  $ %s\n' "$line"
}

# The only way to a command that changes something.
run() {
	show "$@"
	dry || "$@"
}

# A service account that was made a second ago is not yet known everywhere.
run_patiently() {
	local try
	show "$@"
	dry && return
	for try in 1 2 3 4 5 6; do
		if "$@" >"$WORK/output" 2>"$WORK/error"; then return; fi
		grep -q 'does not exist' "$WORK/error" || break
		[ "$try" = 6 ] || sleep 5
	done
	gcloud_failed
}

# Reads into ANSWER. False if there is no such thing; any other failure ends the run.
look() {
	if ANSWER="$("$@" 2>"$WORK/error")"; then return 0; fi
	ANSWER=""
	if grep -qE 'NOT_FOUND|not found|does not exist|Cannot find service' "$WORK/error"; then return 1; fi
	# Where an API is not enabled yet, nothing of it can be there either.
	if grep -qE 'SERVICE_DISABLED|has not been used in project' "$WORK/error"; then return 1; fi
	show "$@" >&2
	gcloud_failed
}

# ---------------------------------------------------------------- options

VALUE_OPTIONS="project region service portal client-id connectors retention-days database location
concurrency max-instances alert-email"
SWITCHES="backups uptime-check canary promote rollback destroy dry-run"

variable() { printf 'DEPLOY_%s' "$(printf '%s' "$1" | tr 'a-z-' 'A-Z_')"; }

listed() { # listed WORD IN ALL THESE
	local word=$1 other
	shift
	for other in "$@"; do
		[ "$word" != "$other" ] || return 0
	done
	return 1
}

# shellcheck disable=SC2086 # the two lists are words
read_options() {
	local option value inline portals=""
	while [ $# -gt 0 ]; do
		case $1 in
		--help | -h)
			usage
			exit
			;;
		--?*) ;;
		*) wrong_usage "\"$1\" is not an option." ;;
		esac
		option=${1%%=*}
		option=${option#--}
		inline=no
		case $1 in *=*) inline=yes ;; esac
		value=${1#*=}
		shift
		if listed "$option" $VALUE_OPTIONS; then
			if [ "$inline" = no ]; then
				case ${1---} in --*) wrong_usage "--$option needs a value." ;; esac
				value=$1
				shift
			fi
			if [ "$option" = portal ]; then
				portals="$portals${portals:+,}$value"
				value=$portals
			fi
		elif ! listed "$option" $SWITCHES; then
			wrong_usage "--$option is not an option."
		elif [ "$inline" = no ]; then
			value=1
		elif [ "$option" != rollback ]; then
			wrong_usage "--$option takes no value."
		fi
		printf -v "$(variable "$option")" %s "$value"
	done
}

# What may be left out on a later run keeps its difference between "not given" and "empty".
defaults() {
	local option
	: "${DEPLOY_PROJECT=}" "${DEPLOY_REGION:=europe-west1}" "${DEPLOY_SERVICE:=bitrix24-deletions}"
	: "${DEPLOY_ALERT_EMAIL=}" "${DEPLOY_LOCATION:=$DEPLOY_REGION}"
	for option in $SWITCHES; do
		option=$(variable "$option")
		printf -v "$option" %s "${!option-}"
	done
}

require() { # require OPTION VALUE PATTERN WHAT-IT-MUST-BE
	[[ $2 =~ ^($3)$ ]] || wrong_usage "--$1 \"$2\" is not right: it must be $4."
}

check_options() {
	local portal portals="" actions=0 switch
	[ -n "$DEPLOY_PROJECT" ] || wrong_usage "--project is missing: which Google Cloud project?"
	require project "$DEPLOY_PROJECT" '[a-z][a-z0-9-]{4,28}[a-z0-9]' "a project's ID, 6 to 30 lower-case letters, digits and dashes (not its name or number)"
	require region "$DEPLOY_REGION" '[a-z]+-[a-z]+[0-9]+' "a Cloud Run region, such as europe-west1"
	# With "-build" it is the name of a service account, which has at most 30 characters.
	require service "$DEPLOY_SERVICE" '[a-z][a-z0-9-]{1,22}[a-z0-9]' \
		"3 to 24 lower-case letters, digits and dashes, beginning with a letter"
	require location "$DEPLOY_LOCATION" '[a-z][a-z0-9-]*[0-9]' "a Firestore location, such as europe-west1 or eur3"
	require database "${DEPLOY_DATABASE-(default)}" '\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]' \
		"(default), or 4 to 63 lower-case letters, digits and dashes"
	require client-id "${DEPLOY_CLIENT_ID-}" '[A-Za-z0-9._-]*' "an application's client_id, such as local.0123abc"
	require connectors "${DEPLOY_CONNECTORS-}" '[A-Za-z0-9._,-]*' "connector ids, separated by commas"
	require retention-days "${DEPLOY_RETENTION_DAYS-}" '([1-9][0-9]{0,4})?' "a number of days, 1 to 99999"
	require concurrency "${DEPLOY_CONCURRENCY-32}" '[1-9][0-9]{0,2}|1000' "a number from 1 to 1000"
	require max-instances "${DEPLOY_MAX_INSTANCES-3}" '[1-9][0-9]{0,2}' "a number from 1 to 999"
	require alert-email "$DEPLOY_ALERT_EMAIL" '([A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+)?' "an e-mail address"
	require rollback "$DEPLOY_ROLLBACK" "[01]?|$DEPLOY_SERVICE-[a-z0-9-]+" "the name of a revision of $DEPLOY_SERVICE"

	if [ -n "${DEPLOY_PORTAL-}" ]; then
		for portal in $(printf '%s' "$DEPLOY_PORTAL" | tr 'A-Z,' 'a-z '); do
			portal=${portal#https://}
			portal=${portal%%/*}
			require portal "$portal" '[a-z0-9-]+(\.[a-z0-9-]+)+' "a portal's domain, such as mycompany.bitrix24.com"
			portals="$portals${portals:+,}$portal"
		done
		DEPLOY_PORTAL=$portals
	fi
	for switch in "$DEPLOY_CANARY" "$DEPLOY_PROMOTE" "$DEPLOY_ROLLBACK" "$DEPLOY_DESTROY"; do
		if on "$switch"; then actions=$((actions + 1)); fi
	done
	[ $actions -le 1 ] || wrong_usage "--canary, --promote, --rollback and --destroy exclude each other."
}

# ---------------------------------------------------------------- preflight

check_gcloud() {
	local version
	step "Checking the Google Cloud CLI and its account"
	command -v gcloud >/dev/null ||
		die "gcloud is missing. Install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install"
	command -v curl >/dev/null || die "curl is missing: it is what checks the function afterwards. Install it."
	version="$(gcloud version --format='value("Google Cloud SDK")')"
	[ "${version%%.*}" -ge "$OLDEST_GCLOUD" ] 2>/dev/null ||
		die "gcloud $version is too old: $OLDEST_GCLOUD or later is needed. Update it: gcloud components update"
	ACCOUNT="$(gcloud auth list --filter=status:ACTIVE --format='value(account)')"
	[ -n "$ACCOUNT" ] || die "gcloud has no account. Sign in: gcloud auth login"
	note "gcloud $version, as $ACCOUNT"
}

check_project() {
	step "Checking the project $DEPLOY_PROJECT"
	PROJECT_NUMBER="$(gcloud projects describe "$DEPLOY_PROJECT" --format='value(projectNumber)' 2>"$WORK/error")" ||
		die "$(cat "$WORK/error")" "Is the ID right, and may $ACCOUNT use it? gcloud projects list"
	# The form of the address that is known before the first deployment and never changes.
	HOST="$DEPLOY_SERVICE-$PROJECT_NUMBER.$DEPLOY_REGION.run.app"
	note "number $PROJECT_NUMBER; the function's address is https://$HOST"
}

check_billing() {
	local enabled
	step "Checking that billing is on"
	if ! enabled="$(gcloud billing projects describe "$DEPLOY_PROJECT" --format='value(billingEnabled)' 2>/dev/null)"; then
		note "$ACCOUNT may not see it; without billing the next steps are refused"
	elif [ "$enabled" != True ]; then
		die "Billing is off for $DEPLOY_PROJECT. Link an account to it, then run this again:" \
			"https://console.cloud.google.com/billing/linkedaccount?project=$DEPLOY_PROJECT"
	else
		note "it is on"
	fi
}

enable_apis() {
	local api missing="" enabled
	step "Enabling the APIs" \
		"Enabling takes the role roles/serviceusage.serviceUsageAdmin on $DEPLOY_PROJECT; ask whoever owns it."
	look gcloud services list --enabled --project="$DEPLOY_PROJECT" --format='value(config.name)' || :
	enabled=$ANSWER
	for api in run cloudbuild artifactregistry firestore iam logging monitoring storage; do
		# shellcheck disable=SC2086 # words
		listed "$api.googleapis.com" $enabled || missing="$missing $api.googleapis.com"
	done
	if [ -z "$missing" ]; then
		note "all are enabled"
		return
	fi
	# shellcheck disable=SC2086 # words
	run gcloud services enable $missing --project="$DEPLOY_PROJECT"
}

# ---------------------------------------------------------------- what is there

# One read of the service: its settings, and which revision has the traffic.
read_service() {
	SERVICE_STATE=""
	SERVICE_EXISTS=no
	if look gcloud run services describe "$DEPLOY_SERVICE" --project="$DEPLOY_PROJECT" --region="$DEPLOY_REGION" \
		--format='flattened[no-pad](spec.template.spec.containers[0].env,spec.traffic,status.traffic,status.latestReadyRevisionName:label=latest)'; then
		SERVICE_STATE=$ANSWER
		SERVICE_EXISTS=yes
	fi
}

# setting NAME: what the service has for an environment variable.
setting() {
	printf '%s\n' "$SERVICE_STATE" | awk -v name="$1" '
		/\.name: / { found = ($2 == name) }
		/\.value: / && found { sub(/^[^ ]* /, ""); print; exit }'
}

# traffic_of TABLE FIELD VALUE WANTED: from spec's or status's traffic table, WANTED of the entries
# whose FIELD has that VALUE.
traffic_of() {
	printf '%s\n' "$SERVICE_STATE" | awk -v table="$1.traffic" -v field="$2:" -v value="$3" -v wanted="$4:" '
		{ split($1, part, /[][]\.?/) }
		part[1] == table && part[3] == wanted { found[part[2]] = $2 }
		part[1] == table && part[3] == field && $2 == value { hit[part[2]] = 1 }
		END { for (entry in hit) if (entry in found) print found[entry] }'
}

need_service() {
	[ "$SERVICE_EXISTS" = yes ] ||
		die "There is no service $DEPLOY_SERVICE in $DEPLOY_REGION yet. First deploy it without --$1."
}

# ---------------------------------------------------------------- deploying

account() { printf '%s-%s@%s.iam.gserviceaccount.com' "$DEPLOY_SERVICE" "$1" "$DEPLOY_PROJECT"; }

has_role() { # has_role PURPOSE ROLE
	look gcloud projects get-iam-policy "$DEPLOY_PROJECT" --flatten='bindings[].members' \
		--filter="bindings.members=\"serviceAccount:$(account "$1")\"" --format='value(bindings.role)' || return 1
	# shellcheck disable=SC2086 # words
	listed "$2" $ANSWER
}

service_account() { # service_account PURPOSE ROLE WHAT-FOR
	step "The account for $3, with the role $2 and no other" \
		"Making it takes the roles roles/iam.serviceAccountAdmin and roles/resourcemanager.projectIamAdmin."
	if look gcloud iam service-accounts describe "$(account "$1")" --project="$DEPLOY_PROJECT" --format='value(email)'; then
		note "$ANSWER is there"
	else
		run gcloud iam service-accounts create "$DEPLOY_SERVICE-$1" --project="$DEPLOY_PROJECT" \
			--display-name="$DEPLOY_SERVICE: $3"
	fi
	if has_role "$1" "$2"; then
		note "it has its role"
	else
		# --condition=None: asked for where the project's policy has conditional bindings already.
		run_patiently gcloud projects add-iam-policy-binding "$DEPLOY_PROJECT" \
			--member="serviceAccount:$(account "$1")" --role="$2" --condition=None
	fi
}

database() {
	local place kind
	DATABASE=${DEPLOY_DATABASE-$(setting FIRESTORE_DATABASE)}
	DATABASE=${DATABASE:-(default)}
	step "The Firestore database $DATABASE" "Creating it takes the role roles/datastore.owner."
	if look gcloud firestore databases describe --project="$DEPLOY_PROJECT" --database="$DATABASE" \
		--format='value(locationId,type)'; then
		read -r place kind <<<"$ANSWER"
		[ "$kind" = FIRESTORE_NATIVE ] ||
			die "The database $DATABASE is in Datastore mode, which the function cannot use. Name another: --database NAME"
		note "it is there, in $place, and is left as it is"
		[ "$place" = "$DEPLOY_LOCATION" ] ||
			note "(not in $DEPLOY_LOCATION: a location is for ever, so it stays; choose a --region near $place if speed matters)"
	else
		note "its location, $DEPLOY_LOCATION, is for ever; it cannot be deleted by accident"
		run gcloud firestore databases create --project="$DEPLOY_PROJECT" --database="$DATABASE" \
			--location="$DEPLOY_LOCATION" --type=firestore-native --delete-protection
	fi
}

# Nobody asks for records by these fields, and an index on rising values slows writes down.
# recorded_at and received_at stay indexed: records are read newest first.
index_exemptions() {
	local field group exempt
	step "No index where nobody asks" "Changing indexes takes the role roles/datastore.indexAdmin or roles/datastore.owner."
	look gcloud firestore indexes fields list --project="$DEPLOY_PROJECT" --database="$DATABASE" --format='value(name)' || :
	exempt=$ANSWER
	for field in deletions/event_at quarantine/event_at quarantine/payload deletions/expires_at quarantine/expires_at; do
		group=${field%/*}
		field=${field#*/}
		case $exempt in
		*"/collectionGroups/$group/fields/$field"*) note "$group.$field has none" ;;
		*)
			# expires_at is waited for, since the step after this changes the same field again.
			set -- --async
			[ "$field" != expires_at ] || set --
			run gcloud firestore indexes fields update "$field" --project="$DEPLOY_PROJECT" --database="$DATABASE" \
				--collection-group="$group" --disable-indexes "$@"
			;;
		esac
	done
}

expiry() {
	local group
	step "Deleting what has expired (only records that have an expires_at: see --retention-days)"
	for group in deletions quarantine; do
		look gcloud firestore fields ttls list --project="$DEPLOY_PROJECT" --database="$DATABASE" \
			--collection-group="$group" --format='value(name)' || :
		case $ANSWER in
		*"/fields/expires_at"*) note "$group are deleted by expires_at" ;;
		*)
			# Even on an empty collection it takes ten minutes: nothing here waits for it.
			run gcloud firestore fields ttls update expires_at --project="$DEPLOY_PROJECT" --database="$DATABASE" \
				--collection-group="$group" --enable-ttl --async
			;;
		esac
	done
}

backups() {
	on "$DEPLOY_BACKUPS" || return 0
	step "Daily backups"
	look gcloud firestore backups schedules list --project="$DEPLOY_PROJECT" --database="$DATABASE" --format='value(name)' || :
	if [ -n "$ANSWER" ]; then
		note "there is a schedule, which is left as it is"
	else
		run gcloud firestore backups schedules create --project="$DEPLOY_PROJECT" --database="$DATABASE" \
			--recurrence=daily --retention=7d
	fi
}

# Settings are updated, never replaced: what is not given, or was set by hand, stays.
service_settings() {
	local first=no settings="GOOGLE_CLOUD_PROJECT=$DEPLOY_PROJECT"
	[ -n "$(setting THREADS)" ] || first=yes
	if [ $first = yes ]; then
		if [ -z "${DEPLOY_PORTAL-}${DEPLOY_CLIENT_ID-}" ]; then
			wrong_usage "A first deployment needs --portal mycompany.bitrix24.com (or --client-id ID):" \
				"without either, the function refuses every install, because it could not tell yours from a stranger's."
		fi
		: "${DEPLOY_CONCURRENCY=32}" "${DEPLOY_MAX_INSTANCES=3}"
		# Bitrix24 is to call this address, whichever one (a canary's, say) an install came to.
		settings="$settings@FUNCTION_URL=https://$HOST"
	fi
	[ -z "${DEPLOY_DATABASE+given}" ] || settings="$settings@FIRESTORE_DATABASE=$DEPLOY_DATABASE"
	[ -z "${DEPLOY_PORTAL+given}" ] || settings="$settings@ALLOWED_PORTALS=$DEPLOY_PORTAL"
	[ -z "${DEPLOY_CLIENT_ID+given}" ] || settings="$settings@CLIENT_ID=$DEPLOY_CLIENT_ID"
	[ -z "${DEPLOY_CONNECTORS+given}" ] || settings="$settings@CONNECTORS=$DEPLOY_CONNECTORS"
	[ -z "${DEPLOY_RETENTION_DAYS+given}" ] || settings="$settings@RETENTION_DAYS=$DEPLOY_RETENTION_DAYS"
	# Cloud Run sends as many requests at once as the function has threads: neither waits for the other.
	[ -z "${DEPLOY_CONCURRENCY+given}" ] || settings="$settings@THREADS=$DEPLOY_CONCURRENCY"
	SETTINGS="^@^$settings"
}

deploy_service() {
	set --
	[ -z "${DEPLOY_CONCURRENCY+given}" ] || set -- "$@" --concurrency="$DEPLOY_CONCURRENCY"
	[ -z "${DEPLOY_MAX_INSTANCES+given}" ] || set -- "$@" --max-instances="$DEPLOY_MAX_INSTANCES"
	if on "$DEPLOY_CANARY"; then set -- "$@" --no-traffic --tag=canary; fi
	step "Building and deploying $DEPLOY_SERVICE (some minutes)" \
		"It takes the roles roles/run.admin and roles/run.sourceDeveloper, and roles/iam.serviceAccountUser for both accounts.
If the build was refused although its account has its role: a new role can take some minutes to count.
If the organisation enforces run.managed.requireInvokerIam: an administrator must lift it for $DEPLOY_PROJECT, since Bitrix24 cannot sign in."
	# SOURCE_DATE_EPOCH: the image resets the times of files, which would void the bytecode of our own
	# modules; with it, bytecode is matched by content. The buildpack does that for dependencies itself.
	dry && note \
		"--no-invoker-iam-check: Bitrix24 cannot sign in, and unlike allUsers an organisation with domain-restricted" \
		"  sharing allows it; the function itself decides who may record, by the application token" \
		"python313: the newest that Google builds with pip, which insists on the hashes in requirements.txt" \
		"SOURCE_DATE_EPOCH: keeps the function's own bytecode valid in the image, so that it starts sooner" \
		"--execution-environment=gen1, --cpu-boost: start sooner; nothing here needs a full Linux" \
		"--min-instances=0, --cpu-throttling: nothing is paid while no event comes; the work is done before the answer" \
		"--concurrency is also THREADS; --max-instances, first set to 3, is the limit of what an attack can cost"
	run gcloud run deploy "$DEPLOY_SERVICE" --project="$DEPLOY_PROJECT" --region="$DEPLOY_REGION" \
		--source=. --function=handle --base-image=python313 --automatic-updates \
		--set-build-env-vars=GOOGLE_PYTHON_PACKAGE_MANAGER=pip,SOURCE_DATE_EPOCH=315532800 \
		--build-service-account="projects/$DEPLOY_PROJECT/serviceAccounts/$(account build)" \
		--service-account="$(account run)" \
		--no-invoker-iam-check --ingress=all \
		--cpu=1 --memory=512Mi --cpu-boost --cpu-throttling --execution-environment=gen1 \
		--min-instances=0 --timeout=60 --labels=app="$DEPLOY_SERVICE" \
		--update-env-vars="$SETTINGS" "$@"
}

traffic() { # traffic WHAT FLAGS
	step "$1"
	shift
	run gcloud run services update-traffic "$DEPLOY_SERVICE" --project="$DEPLOY_PROJECT" --region="$DEPLOY_REGION" "$@"
}

# After a canary or a rollback new revisions get no traffic until they are told to.
all_traffic_to_latest() {
	if [ "$SERVICE_EXISTS" = yes ] && [ "$(traffic_of spec latestRevision True percent)" != 100 ]; then
		traffic "Ending the canary or rollback: all traffic to what was just deployed" --to-latest
	fi
}

# gcloud reports success also where an organisation forbids public access: only a request can tell.
check_health() { # check_health HOST
	local status try
	step "Checking that anybody reaches https://$1/health"
	dry && return
	for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
		status="$(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 "https://$1/health")" || :
		if [ "$status" = 200 ]; then
			note "it answers 200"
			return
		fi
		[ "$try" = 12 ] || sleep 5
	done
	case $status in
	401 | 403)
		HINT="Public access is forbidden (HTTP $status), and Bitrix24 cannot sign in. An administrator of the organisation must lift the policy constraints/run.managed.requireInvokerIam for $DEPLOY_PROJECT, and allow the ingress \"all\" (run.allowedIngress):
https://console.cloud.google.com/iam-admin/orgpolicies?project=$DEPLOY_PROJECT"
		;;
	*)
		HINT="It answers HTTP ${status:-000}. Its log says why:
gcloud run services logs read $DEPLOY_SERVICE --project=$DEPLOY_PROJECT --region=$DEPLOY_REGION --limit=50"
		;;
	esac
	exit 1
}

# ---------------------------------------------------------------- watching

log_filter() { # log_filter OUTCOME
	printf 'resource.type="cloud_run_revision" AND resource.labels.service_name="%s" AND jsonPayload.outcome="%s"' \
		"$DEPLOY_SERVICE" "$1"
}

metric_name() { printf '%s-%s' "$DEPLOY_SERVICE" "$(printf '%s' "$1" | tr _ -)"; }

metric() { # metric OUTCOME DESCRIPTION
	if look gcloud logging metrics describe "$(metric_name "$1")" --project="$DEPLOY_PROJECT" --format='value(name)'; then
		note "$ANSWER is counted"
	else
		run gcloud logging metrics create "$(metric_name "$1")" --project="$DEPLOY_PROJECT" \
			--description="$2" --log-filter="$(log_filter "$1")"
	fi
}

metrics() {
	step "Counting what must not happen, for charts" "This takes the role roles/logging.configWriter."
	metric not_recorded "Log lines that keep deletions which Firestore did not take"
	metric install_refused "Installs refused because they were not proven"
}

channel() {
	if look gcloud beta monitoring channels list --project="$DEPLOY_PROJECT" \
		--filter="type=\"email\" AND labels.email_address=\"$DEPLOY_ALERT_EMAIL\"" --format='value(name)' --limit=1 &&
		[ -n "$ANSWER" ]; then
		CHANNEL=$ANSWER
		return
	fi
	# Only a dry run gets on without the name that Google gives it.
	CHANNEL="projects/$DEPLOY_PROJECT/notificationChannels/NEW"
	run gcloud beta monitoring channels create --project="$DEPLOY_PROJECT" --type=email \
		--display-name="$DEPLOY_ALERT_EMAIL" --channel-labels="email_address=$DEPLOY_ALERT_EMAIL"
	dry && return
	look gcloud beta monitoring channels list --project="$DEPLOY_PROJECT" \
		--filter="type=\"email\" AND labels.email_address=\"$DEPLOY_ALERT_EMAIL\"" --format='value(name)' --limit=1 || :
	[ -n "$ANSWER" ] || die "Google Cloud does not list the new channel yet."
	CHANNEL=$ANSWER
}

look_policy() { # look_policy TITLE
	look gcloud alpha monitoring policies list --project="$DEPLOY_PROJECT" --filter="displayName=\"$1\"" \
		--format='value(name,notificationChannels)' --limit=1 && [ -n "$ANSWER" ]
}

policy() { # policy TITLE JSON-OF-THE-REST
	local name channels
	if ! look_policy "$1"; then
		run gcloud alpha monitoring policies create --project="$DEPLOY_PROJECT" --notification-channels="$CHANNEL" \
			--policy="{\"displayName\": \"$1\", \"combiner\": \"OR\", $2}"
		return
	fi
	read -r name channels <<<"$ANSWER"
	case ";$channels;" in
	*";$CHANNEL;"*) note "\"$1\" goes to $DEPLOY_ALERT_EMAIL" ;;
	*) run gcloud alpha monitoring policies update "$name" --project="$DEPLOY_PROJECT" --add-notification-channels="$CHANNEL" ;;
	esac
}

# On the log line itself: it comes at once and names the portal, and a policy on a metric that is
# minutes old would be refused.
log_alert() { # log_alert OUTCOME TITLE SEVERITY PERIOD WHAT-TO-DO
	local filter
	filter="$(log_filter "$1" | sed 's/"/\\"/g')"
	policy "$DEPLOY_SERVICE: $2" "\"severity\": \"$3\", \"documentation\": {\"mimeType\": \"text/markdown\", \"content\": \"$5\"}, \"conditions\": [{\"displayName\": \"outcome $1\", \"conditionMatchedLog\": {\"filter\": \"$filter\", \"labelExtractors\": {\"member_id\": \"EXTRACT(jsonPayload.member_id)\"}}}], \"alertStrategy\": {\"notificationRateLimit\": {\"period\": \"$4\"}, \"autoClose\": \"86400s\"}"
}

alerts() {
	[ -n "$DEPLOY_ALERT_EMAIL" ] || return 0
	step "Alerts to $DEPLOY_ALERT_EMAIL" "This takes the roles roles/monitoring.editor and roles/logging.configWriter."
	channel
	log_alert not_recorded "a deletion was not recorded" CRITICAL 300s \
		"Firestore did not take a deletion; the log has kept it. When Firestore is well again: README, Replay what was not recorded."
	# Anybody can send a false install: once an hour is enough to know.
	log_alert install_refused "an install was refused" WARNING 3600s \
		"If it was yours, run deploy.sh with --portal, or --client-id; the log line says which. If not, nothing has to be done."
}

uptime_name() { printf '%s health' "$DEPLOY_SERVICE"; }

look_uptime() {
	look gcloud monitoring uptime list-configs --project="$DEPLOY_PROJECT" --filter="displayName=\"$(uptime_name)\"" \
		--format='value(name)' --limit=1 && [ -n "$ANSWER" ]
}

uptime() {
	on "$DEPLOY_UPTIME_CHECK" || return 0
	step "A check of /health every 5 minutes" "This takes the role roles/monitoring.editor."
	if look_uptime; then
		note "it is there"
	else
		run gcloud monitoring uptime create "$(uptime_name)" --project="$DEPLOY_PROJECT" --resource-type=uptime-url \
			--resource-labels="host=$HOST,project_id=$DEPLOY_PROJECT" --protocol=https --path=/health \
			--validate-ssl=true --status-classes=2xx --period=5 --timeout=10
	fi
	[ -n "$DEPLOY_ALERT_EMAIL" ] || return 0
	# More than one place must fail to reach it, twice in a row.
	policy "$DEPLOY_SERVICE: /health does not answer" "\"severity\": \"CRITICAL\", \"conditions\": [{\"displayName\": \"uptime check fails\", \"conditionThreshold\": {\"filter\": \"metric.type=\\\"monitoring.googleapis.com/uptime_check/check_passed\\\" AND resource.type=\\\"uptime_url\\\" AND resource.labels.host=\\\"$HOST\\\"\", \"aggregations\": [{\"alignmentPeriod\": \"300s\", \"perSeriesAligner\": \"ALIGN_NEXT_OLDER\", \"crossSeriesReducer\": \"REDUCE_COUNT_FALSE\", \"groupByFields\": [\"resource.label.*\"]}], \"comparison\": \"COMPARISON_GT\", \"thresholdValue\": 1, \"duration\": \"300s\", \"trigger\": {\"count\": 1}}}]"
}

# ---------------------------------------------------------------- what it can be asked for

say_next() {
	if dry; then
		printf '\nThat was a dry run: nothing was changed.\n'
	elif on "$DEPLOY_CANARY"; then
		printf '\n%s\n' "The canary is at https://canary---$HOST and gets no traffic of its own: Bitrix24 does not repeat
an event that fails, so real ones are not for trying. Send it a sample (python -m handler send --help), then run
this again with --promote."
	else
		printf '\n%s\n' "The address to paste into Bitrix24:

    https://$HOST

Next: in Bitrix24, open Developer resources > Other > Local application. Choose \"Script only (no user interface)\",
paste the address both as the handler path and as the initial installation path, give the permission \"imopenlines\"
and save. To see that the install was accepted:

    gcloud logging read 'resource.labels.service_name=\"$DEPLOY_SERVICE\" AND jsonPayload.outcome=(\"installed\" OR \"install_refused\")' --project=$DEPLOY_PROJECT --freshness=10m --limit=5 --format='value(timestamp,jsonPayload.outcome,jsonPayload.message)'"
	fi
}

deploy() {
	read_service
	if on "$DEPLOY_CANARY"; then need_service canary; fi
	service_settings
	check_billing
	enable_apis
	service_account run roles/datastore.user "running the function"
	service_account build roles/run.builder "building it"
	database
	index_exemptions
	expiry
	backups
	deploy_service
	if on "$DEPLOY_CANARY"; then
		check_health "canary---$HOST"
	else
		all_traffic_to_latest
		check_health "$HOST"
	fi
	metrics
	alerts
	uptime
	say_next
}

promote() {
	local canary
	read_service
	need_service promote
	canary="$(traffic_of status tag canary revisionName)"
	[ -n "$canary" ] || die "There is no canary to promote. Deploy one first: --canary"
	printf '%s\n' "$SERVICE_STATE" | grep -qx "latest: $canary" ||
		die "$canary is no longer the latest revision. Deploy a new canary first: --canary"
	traffic "All traffic to $canary" --to-latest --remove-tags=canary
	check_health "$HOST"
}

# The newest revision before the one that has the traffic, and that became ready.
revision_before() { # revision_before REVISION
	look gcloud run revisions list --project="$DEPLOY_PROJECT" --region="$DEPLOY_REGION" --service="$DEPLOY_SERVICE" \
		--sort-by=~metadata.creationTimestamp --format='value(metadata.name,status.conditions.filter("type=Ready").extract(status).flatten())' || :
	BEFORE="$(printf '%s\n' "$ANSWER" | awk -v now="$1" 'found && $2 == "True" { print $1; exit } $1 == now { found = 1 }')"
	[ -n "$BEFORE" ] || die "There is no ready revision before \"$1\" to go back to. Name one: --rollback=REVISION"
}

rollback() {
	read_service
	need_service rollback
	BEFORE=$DEPLOY_ROLLBACK
	if [ "$BEFORE" = 1 ]; then revision_before "$(traffic_of status percent 100 revisionName)"; fi
	traffic "All traffic to $BEFORE" --to-revisions="$BEFORE=100"
	check_health "$HOST"
	dry || note "It stays so until the next ./deploy.sh, which sends all traffic to what it deploys."
}

destroy() {
	local title outcome name purpose role
	step "Taking the service down"
	read_service
	if [ "$SERVICE_EXISTS" = yes ]; then
		run gcloud run services delete "$DEPLOY_SERVICE" --project="$DEPLOY_PROJECT" --region="$DEPLOY_REGION" --quiet
	else
		note "it is not there"
	fi
	step "Removing its alerts, its check and its counters"
	for title in "a deletion was not recorded" "an install was refused" "/health does not answer"; do
		look_policy "$DEPLOY_SERVICE: $title" || continue
		read -r name _ <<<"$ANSWER"
		run gcloud alpha monitoring policies delete "$name" --project="$DEPLOY_PROJECT" --quiet
	done
	if look_uptime; then run gcloud monitoring uptime delete "$ANSWER" --project="$DEPLOY_PROJECT" --quiet; fi
	for outcome in not_recorded install_refused; do
		name="$(metric_name "$outcome")"
		if look gcloud logging metrics describe "$name" --project="$DEPLOY_PROJECT" --format='value(name)'; then
			run gcloud logging metrics delete "$name" --project="$DEPLOY_PROJECT" --quiet
		fi
	done
	step "Removing its accounts and their roles"
	for role in run:roles/datastore.user build:roles/run.builder; do
		purpose=${role%%:*}
		role=${role#*:}
		if has_role "$purpose" "$role"; then
			run gcloud projects remove-iam-policy-binding "$DEPLOY_PROJECT" \
				--member="serviceAccount:$(account "$purpose")" --role="$role" --condition=None
		fi
		if look gcloud iam service-accounts describe "$(account "$purpose")" --project="$DEPLOY_PROJECT" --format='value(email)'; then
			run gcloud iam service-accounts delete "$ANSWER" --project="$DEPLOY_PROJECT" --quiet
		fi
	done
	printf '\n%s\n' "Kept: every record in Firestore, the database with its indexes and backups, the enabled APIs, built images
(Artifact Registry, cloud-run-source-deploy), uploaded source and the e-mail channel. README, \"Remove\", says how to delete
these too. Delete the application in Bitrix24, or it goes on calling; deploying again brings the same address back."
}

main() {
	read_options "$@"
	defaults
	check_options
	export CLOUDSDK_CORE_DISABLE_PROMPTS=1 CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API=false
	cd "$(dirname "$0")"
	if dry; then printf 'A dry run: the lines with $ are what would be run.\n'; fi
	check_gcloud
	check_project
	if on "$DEPLOY_DESTROY"; then
		destroy
	elif on "$DEPLOY_PROMOTE"; then
		promote
	elif on "$DEPLOY_ROLLBACK"; then
		rollback
	else
		deploy
	fi
	STEP=""
}

main "$@"
