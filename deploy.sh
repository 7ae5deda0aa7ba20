#!/usr/bin/env bash
# Deploys everything to Google Cloud, or updates it: ./deploy.sh --help
# Written for macOS's bash 3.2. Data is in deploy/: the help, the options, indexes and expiry,
# alerts, the dashboard, what to do about errors.
# shellcheck disable=SC2034,SC2154 # texts in deploy/ use variables, and each option is set as O_NAME
set -feuo pipefail

# The oldest Google Cloud CLI whose parser accepts every command below.
OLDEST_GCLOUD=528
# In the order of creation; each is a file in deploy/alerts. One more: health.
ALERTS="not-recorded portal-problem unprocessable-event known-portal-forbidden install-refused instance-limit"
SWITCHES="backups pitr uptime-check status destroy dry-run skip-deep-check yes"

STEP=""     # ROLES: what the account may lack for it
LOOKING=yes # no: a dry run that cannot read anything
NEW_ROLE="" # set if this run granted a role, which can take minutes to take effect
ANSWER=""
WORK="$(mktemp -d)"

finish() {
	local code=$?
	if [ "$code" -ne 0 ] && [ -n "$STEP" ]; then
		say_error "Stopped at: $STEP." "$(advice)" \
			"Nothing has to be undone: run the same command again to complete it."
	fi
	rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

say_error() { printf '%s\n' "$@" >&2; }

# For an error that already says what to do.
die() {
	STEP=""
	say_error "$@"
	exit "${CODE:-1}"
}

wrong_usage() { CODE=2 die "$@" "./deploy.sh --help lists the options."; }

# table FILE: the lines of a table in deploy/, their columns separated by tabs.
table() { sed -e '/^#/d' -e 's/ | /	/g' "deploy/$1"; }

# Replaces each @NAME@ with the variable of that name.
filled() {
	local text name
	IFS= read -r -d '' text || :
	while [[ $text =~ @([A-Za-z_]+)@ ]]; do
		name=${BASH_REMATCH[1]}
		text=${text//@$name@/${!name}}
	done
	printf '%s' "$text"
}

# paragraph NAME: prints it from deploy/steps.txt.
paragraph() { awk -v RS= -v name="[$1]" '$1 == name' deploy/steps.txt | filled; }

say() { paragraph "$1" | sed -e 1d -e 's/^/  /'; }

# step NAME: says what the step does; sets STEP to its title, and ROLES to what the account needs.
step() {
	local text
	text=$(paragraph "$1")
	STEP=${text%%$'\n'*}
	STEP=${STEP#*\] }
	ROLES="more rights"
	if [[ $text =~ needs\ (roles[^$'\n']*) ]]; then ROLES=${BASH_REMATCH[1]}; fi
	printf '(nothing)\n' >"$WORK/error"
	printf '\n%s\n' "$STEP"
	printf '%s\n' "$text" | sed -e 1d -e '/^needs /d' -e 's/^/  /'
}

# What to do about the last error.
advice() {
	local pattern text
	while IFS='	' read -r pattern text; do
		if grep -qE "$pattern" "$WORK/error"; then
			printf '%s' "$text" | filled
			break
		fi
	done <<<"$(table hints.txt)"
}

note() { printf '  %s\n' "$@"; }

# change WHAT OLD NEW
change() {
	if [ "$SERVICE_EXISTS" = no ] || [ "$2" = "$3" ]; then note "$1: $3"; else note "$1: $2 -> $3"; fi
}

dry() { on "$O_dry_run"; }
on() { [ -n "$1" ]; }

# confirm WORD: asks for it to be typed before a step that cannot easily be undone.
confirm() {
	local typed=""
	if dry; then
		note "(Without --dry-run, it would now ask for $1 to be typed; --yes skips that.)"
	elif ! on "$O_yes"; then
		printf '  To continue, type %s: ' "$1"
		read -r typed || printf '\n'
		[ "$typed" = "$1" ] || die "That was not $1, so nothing was done. In a script, use --yes."
	fi
}

# ---------------------------------------------------------------- commands

# Prints a command, ready to paste, in lines of about 100 characters.
show() {
	local line='  $' word
	for word in "$@"; do
		case $word in
		"|") ;;
		*[!A-Za-z0-9_./:@=,+%-]* | "") word="'$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
		esac
		if [ $((${#line} + ${#word})) -gt 96 ] && [ "$line" != '  $' ]; then
			printf '%s \\\n' "$line"
			line="     "
		fi
		line="$line $word"
	done
	printf '%s\n' "$line"
}

# Runs a command and saves a copy of its standard error.
kept() { { "$@" 2>&1 >&3 | tee "$WORK/error" >&2; } 3>&1; }

# Every changing command goes through here.
run() {
	show "$@"
	dry || kept "$@" </dev/null
}

# run_with FILE COMMAND: with a file of deploy/, filled in, as standard input.
run_with() {
	local file="deploy/$1"
	shift
	show sed -e "s/@O_service@/$O_service/g" -e "s/@HOST@/$HOST/g" "$file" "|" "$@"
	dry || filled <"$file" | kept "$@"
}

# run_patiently PATTERN COMMAND: retries for several minutes while the error matches the pattern.
run_patiently() {
	local try pattern=$1
	shift
	show "$@"
	dry && return
	for try in 1 2 3 4 5 6 7 8 9 10; do
		if kept "$@" </dev/null; then return; fi
		if [ "$try" = 10 ] || ! grep -qE "$pattern" "$WORK/error"; then break; fi
		note "A new account or role can take minutes to take effect: retrying in 30 seconds"
		sleep 30
	done
	exit 1
}

# Reads into ANSWER. Returns false if it does not exist; any other failure ends the run.
look() {
	ANSWER=""
	[ "$LOOKING" = yes ] || return 1
	if ANSWER="$("$@" 2>"$WORK/error" </dev/null)"; then return 0; fi
	ANSWER=""
	# If an API is not enabled yet, nothing of it can exist.
	! grep -qE 'NOT_FOUND|not found|does not exist|Cannot find service|SERVICE_DISABLED|has not been used in project' "$WORK/error" || return 1
	if dry; then
		note "(could not be read, so this is shown as if nothing existed: $(head -n 1 "$WORK/error"))"
		return 1
	fi
	show "$@" >&2
	cat "$WORK/error" >&2
	exit 1
}

# look_listed TITLE FORMAT COMMAND: the entry with that title in what the command lists.
look_listed() {
	look "${@:3}" --project="$O_project" --filter="displayName=\"$1\"" --format="$2" --limit=1 && on "$ANSWER"
}

# monitoring GROUP TRACK: sets MONITORING to the command of that group, in TRACK for older gclouds.
monitoring() {
	MONITORING=(gcloud monitoring "$1")
	if command -v gcloud >/dev/null && ! gcloud monitoring "$1" list --help >"$WORK/help" 2>&1; then MONITORING=(gcloud "$2" monitoring "$1"); fi
}

# ---------------------------------------------------------------- options

# given OPTION: was it on the command line, even if empty?
given() {
	local name=O_${1//-/_}
	[ -n "${!name+given}" ]
}

# An option that is not given differs from an empty one: it keeps its setting on a later run.
read_options() {
	local option value inline portals="" with_values
	with_values=$(table options.txt | cut -f 1 | tr '\n' ' ')
	for option in $with_values; do unset "O_${option//-/_}"; done
	for option in $SWITCHES; do printf -v "O_${option//-/_}" %s ""; done
	while [ $# -gt 0 ]; do
		[[ $1 =~ ^--([a-z-]+)(=(.*))?$ ]] || wrong_usage "\"$1\" is not an option."
		option=${BASH_REMATCH[1]}
		inline=${BASH_REMATCH[2]}
		value=${BASH_REMATCH[3]}
		shift
		if [ "$option" = help ]; then
			cat deploy/help.txt
			exit
		elif [[ " $SWITCHES " == *" $option "* ]] && ! on "$inline"; then
			value=$option # so that --status and --destroy hold the action's name
			[ "$option" != backups ] || value=7
		elif [[ " $with_values " != *" $option "* ]]; then
			wrong_usage "--$option is not an option${inline:+, or takes no value}."
		elif ! on "$inline"; then
			case ${1---} in --*) wrong_usage "--$option needs a value." ;; esac
			value=$1
			shift
		fi
		if [ "$option" = portal ]; then
			portals="$portals${portals:+,}$(printf '%s' "$value" | tr '[:upper:]' '[:lower:]' | sed -e 's|https://||g' -e 's|/[^,]*||g')"
			value=$portals
		fi
		printf -v "O_${option//-/_}" %s "$value"
	done
}

check_options() {
	local option pattern meaning name
	while IFS='	' read -r option pattern meaning; do
		name=O_${option//-/_}
		! given "$option" || [[ ${!name} =~ ^($pattern)$ ]] || wrong_usage "--$option \"${!name}\" is not valid: it must be $meaning."
	done <<<"$(table options.txt)"
	! on "$O_status" || ! on "$O_destroy" || wrong_usage "--status and --destroy exclude each other."
	if dry && ! given project; then
		LOOKING=no
		: "${O_project=your-project}" "${O_portal=yourcompany.bitrix24.com}"
	fi
	given project || wrong_usage "--project is missing: which Google Cloud project?"
	: "${O_region=europe-west1}" "${O_service=bitrix24-deletions}" "${O_alert_email=}" "${O_alert_channel=}"
	: "${O_location=$O_region}"
	HERE=(--project="$O_project" --region="$O_region")
}

# ---------------------------------------------------------------- current state

# A dry run continues without looking; any other run stops.
cannot_look() {
	if ! dry || on "$O_status$O_destroy"; then die "$@"; fi
	LOOKING=no
	note "$@"
}

check_gcloud() {
	local version account number=""
	step gcloud
	if [ "$LOOKING" = no ]; then
		say placeholders
	elif ! command -v gcloud >/dev/null; then
		cannot_look "gcloud is missing. Install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install"
	else
		command -v curl >/dev/null || die "curl is missing: it checks the function after the deployment. Install it."
		version="$(gcloud version --format='value("Google Cloud SDK")')"
		[ "${version%%.*}" -ge "$OLDEST_GCLOUD" ] 2>/dev/null ||
			die "gcloud $version is too old: $OLDEST_GCLOUD or later is needed. Update it: gcloud components update"
		account="$(gcloud auth list --filter=status:ACTIVE --format='value(account)')"
		if ! on "$account"; then
			cannot_look "gcloud has no account. Sign in: gcloud auth login"
		elif ! number="$(gcloud projects describe "$O_project" --format='value(projectNumber)' 2>"$WORK/error")"; then
			cannot_look "$(head -n 1 "$WORK/error")" "Is the ID right, and may $account use it? To list your projects: gcloud projects list"
		else
			note "gcloud $version, as $account"
		fi
	fi
	[ "$LOOKING" = yes ] || say empty-project
	# This form of the URL is known before the first deployment and never changes.
	HOST="$O_service-${number:-PROJECT_NUMBER}.$O_region.run.app"
	note "The function's URL: https://$HOST"
}

check_billing() {
	step billing
	case $(gcloud billing projects describe "$O_project" --format='value(billingEnabled)' 2>/dev/null) in
	True) note "It is on." ;;
	"") note "Your account cannot see whether it is. Without billing, the next steps are refused." ;;
	*) die "Billing is off for $O_project. Link an account to it, then run this again:" \
		"https://console.cloud.google.com/billing/linkedaccount?project=$O_project" ;;
	esac
}

# Reads once which revision serves, and its settings: the template has those of an update that failed.
read_service() {
	SERVICE_EXISTS=no
	local part='@spec.containers[0]'
	local all="$part.env,$part.resources.limits.cpu:label=cpu,$part.resources.limits.memory:label=memory,@spec.timeoutSeconds:label=timeout,@spec.containerConcurrency:label=concurrency,@metadata.annotations"
	! look gcloud run services describe "$O_service" "${HERE[@]}" \
		--format="flattened[no-pad](${all//@/spec.template.},status.traffic,status.latestReadyRevisionName:label=latest)" || SERVICE_EXISTS=yes
	TEMPLATE=$ANSWER SERVICE_STATE=$ANSWER
	LATEST=$(property latest)
	# Those that have traffic, each as NAME=PERCENT; the one with the most comes first.
	SERVING=$(awk <<<"$ANSWER" '
		{ split($1, part, /[][]\.?/) }
		part[1] == "status.traffic" && part[3] == "percent:" { percent[part[2]] = $2 }
		part[1] == "status.traffic" && part[3] == "revisionName:" { name[part[2]] = $2 }
		END { for (n = 100; n; n--) for (entry in percent) if (percent[entry] == n) { printf "%s%s=%s", comma, name[entry], n; comma = "," } }')
	! on "$SERVING" || ! look gcloud run revisions describe "${SERVING%%=*}" "${HERE[@]}" --format="flattened[no-pad](${all//@/})" || SERVICE_STATE=$ANSWER
	DATABASE_BEFORE=$(setting FIRESTORE_DATABASE)
	DATABASE_BEFORE=${DATABASE_BEFORE:-(default)}
	DATABASE=${O_database-$DATABASE_BEFORE}
	IN=(--project="$O_project" --database="$DATABASE")
}

# setting NAME [STATE]: the value of an environment variable.
setting() {
	printf '%s\n' "${2-$SERVICE_STATE}" | awk -v name="$1" '
		/\.name: / { found = ($2 == name) }
		/\.value: / && found { sub(/^[^ ]* /, ""); print; exit }'
}

# property LABEL: the value of anything else; of an annotation, by the end of its name.
property() { printf '%s\n' "$SERVICE_STATE" | awk -v label="(^|/)$1:$" '$1 ~ label { print $2; exit }'; }

version_at() { # version_at HOST: the version that answers at this host
	{ curl --silent --max-time 10 "https://$1/health" || :; } 2>/dev/null | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p'
}

# Shows how each setting changes. SETTINGS has what the template lacks; those set by hand stay.
show_settings() {
	local option name what empty old new
	SETTINGS="^@^GOOGLE_CLOUD_PROJECT=$O_project"
	while IFS='	' read -r option name what empty; do
		old="$(setting "$name")"
		new=$old
		if given "$option"; then
			new=O_${option//-/_}
			new=${!new}
		fi
		[ "$new" = "$(setting "$name" "$TEMPLATE")" ] || SETTINGS="$SETTINGS@$name=$new"
		change "$what" "${old:-$empty}" "${new:-$empty}"
	done <<<"$(table settings.txt)"
	old=$(property maxScale)
	change "Maximum number of instances" "$old" "${O_max_instances-$old}"
}

service_settings() {
	local version
	NOW_THEN=$([ "$SERVICE_EXISTS" = no ] || printf ' (now -> then)')
	step settings
	if ! on "$(setting THREADS)"; then
		on "${O_portal-}${O_client_id-}" ||
			wrong_usage "A first deployment needs --portal mycompany.bitrix24.com (or --client-id ID):" \
				"without either, the function refuses every install, because it cannot tell yours from a stranger's."
		: "${O_concurrency=32}" "${O_max_instances=3}"
	fi
	show_settings
	: "${O_concurrency=$(property concurrency)}" "${O_max_instances=$(property maxScale)}"
	# Bitrix24 should call this URL, even if an install came in at another.
	on "$(setting THREADS)" || SETTINGS="$SETTINGS@FUNCTION_URL=https://$HOST"
	if [ "$SERVICE_EXISTS" = yes ]; then
		change "CPUs, memory, seconds per request" "$(property cpu), $(property memory), $(property timeout)" "1, 512Mi, 60"
		version=$(version_at "$HOST")
		change "Version" "${version:-unknown}" "$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
	fi
}

# ---------------------------------------------------------------- storage

enable_apis() {
	local api enabled
	step apis
	look gcloud services list --enabled --project="$O_project" --format='value(config.name)' || :
	enabled=" ${ANSWER//$'\n'/ } "
	for api in run cloudbuild artifactregistry firestore iam logging monitoring storage; do
		[[ $enabled == *" $api.googleapis.com "* ]] || set -- "$@" "$api.googleapis.com"
	done
	if [ $# -gt 0 ]; then run gcloud services enable "$@" --project="$O_project"; else note "All are enabled."; fi
}

# check ARGUMENTS: runs deploy/check.py with gcloud's own Python and its token.
check() {
	local root python
	IFS='	' read -r root python <<<"$(gcloud info --format='value(installation.sdk_root,basic.python_location)')"
	# On macOS, that Python has only gcloud's certificates.
	case $OSTYPE in darwin*) export SSL_CERT_FILE="${SSL_CERT_FILE-$root/lib/third_party/certifi/cacert.pem}" ;; esac
	gcloud auth print-access-token | "$python" deploy/check.py "$O_project" "$@"
}

active_portals() { check "$1" 2>/dev/null || printf 'unknown'; }

# A service that changes to another database does not know its portals.
ask_about_database() { # ask_about_database YES-IF-THE-NEW-ONE-EXISTS
	[ "$SERVICE_EXISTS" = yes ] && [ "$DATABASE_BEFORE" != "$DATABASE" ] || return 0
	PORTALS_BEFORE=$(active_portals "$DATABASE_BEFORE")
	PORTALS=$(if on "$1"; then active_portals "$DATABASE"; else printf none; fi)
	say other-database
	confirm "$DATABASE"
}

database() {
	local kind recovery
	step database
	if look gcloud firestore databases describe "${IN[@]}" --format='value(locationId,type,pointInTimeRecoveryEnablement)'; then
		read -r LOCATION kind recovery <<<"$ANSWER"
		[ "$kind" = FIRESTORE_NATIVE ] ||
			die "The database $DATABASE is in Datastore mode, which the function cannot use. Use another: --database NAME"
		note "It exists, in $LOCATION. The location cannot be changed."
		[ "$LOCATION" = "$O_location" ] || note "(It is not in $O_location. A --region near $LOCATION is faster.)"
		ask_about_database yes
		if on "$O_pitr" && [ "$recovery" != POINT_IN_TIME_RECOVERY_ENABLED ]; then
			note "Point-in-time recovery: off -> on"
			say pitr
			run gcloud firestore databases update "${IN[@]}" --enable-pitr
		fi
		return
	fi
	LOCATION=$O_location
	ask_about_database ""
	say new-database
	! on "$O_pitr" || say pitr
	run gcloud firestore databases create "${IN[@]}" --location="$LOCATION" --type=firestore-native \
		--delete-protection ${O_pitr:+--enable-pitr}
}

# overrides PATTERN: prints "GROUP FIELD" for each matching line of deploy/indexes.json.
overrides() {
	sed -n "/$1/"'s/.*"collectionGroup": "\([^"]*\)", "fieldPath": "\([^"]*\)".*/\1 \2/p' deploy/indexes.json
}

# Fields that are never queried need no index: an index on rising values slows down writes.
indexes() {
	local field group exempt
	step indexes
	look gcloud firestore indexes fields list "${IN[@]}" --format='value(name)' || :
	exempt=" $(printf '%s' "$ANSWER" | tr '\n' ' ') "
	# Version 0.1.0 left it without an index, but records are now queried by it.
	if [[ $exempt == *"/collectionGroups/deletions/fields/event_at "* ]]; then
		note "deletions, event_at: not indexed -> indexed"
		run gcloud firestore indexes fields update event_at "${IN[@]}" --collection-group=deletions --clear-exemption --async
	fi
	note "Fields that are never searched get no index:"
	while read -r group field; do
		# Expiry changes expires_at again below, so this change is not --async.
		[ "$field" = expires_at ] || set -- --async
		[[ $exempt == *"/collectionGroups/$group/fields/$field "* ]] ||
			run gcloud firestore indexes fields update "$field" "${IN[@]}" --collection-group="$group" --disable-indexes "$@"
		set --
	done <<<"$(overrides '"indexes": \[\]')"
	say ttl
	while read -r group field; do
		look gcloud firestore fields ttls list "${IN[@]}" --collection-group="$group" --format='value(name)' || :
		# Even on an empty collection, this takes ten minutes, so it is --async.
		[[ $ANSWER == *"/fields/$field"* ]] ||
			run gcloud firestore fields ttls update "$field" "${IN[@]}" --collection-group="$group" --enable-ttl --async
	done <<<"$(overrides '"ttl": true')"
}

backups() {
	local name kept
	on "$O_backups" || return 0
	step backups
	look gcloud firestore backups schedules list "${IN[@]}" --format='value(name.basename(),retention)' --limit=1 || :
	read -r name kept <<<"$ANSWER"
	if ! on "$name"; then
		run gcloud firestore backups schedules create "${IN[@]}" --recurrence=daily --retention="${O_backups}d"
	elif [ "${kept%s}" != $((O_backups * 86400)) ]; then
		note "Days: $((${kept%s} / 86400)) -> $O_backups"
		run gcloud firestore backups schedules update "${IN[@]}" --backup-schedule="$name" --retention="${O_backups}d"
	fi
}

DEAD_LETTERS='resource.type="cloud_run_revision" AND resource.labels.service_name="@O_service@" AND jsonPayload.outcome="not_recorded" AND NOT jsonPayload.member_id=~"^deploy-check-"'

# Log buckets do not support eur3 or nam5: use the surrounding multi-region.
bucket() {
	BUCKET="$O_service-dead-letters"
	BUCKET_LOCATION=$(printf '%s' "$LOCATION" | sed -e 's/^eur[0-9]*$/eu/' -e 's/^nam[0-9]*$/us/')
	AT=(--project="$O_project" --location="$BUCKET_LOCATION")
	look gcloud logging buckets describe "$BUCKET" "${AT[@]}" --format='value(retentionDays)' || :
}

dead_letters() {
	local to retention now
	step dead-letters
	bucket
	now=$ANSWER
	DAYS=${O_dead_letter_days-${now:-400}}
	retention=${O_retention_days-$(setting RETENTION_DAYS)}
	# By default, it is not kept for longer than the records.
	if ! given dead-letter-days && on "$retention" && [ "$DAYS" -gt "$retention" ]; then DAYS=$retention; fi
	say kept-letters
	if ! on "$now"; then
		run gcloud logging buckets create "$BUCKET" "${AT[@]}" --retention-days="$DAYS" --description="Deletions that could not be stored in Firestore"
	elif [ "$now" != "$DAYS" ]; then
		note "Days: $now -> $DAYS"
		run gcloud logging buckets update "$BUCKET" "${AT[@]}" --retention-days="$DAYS"
	fi
	to="logging.googleapis.com/projects/$O_project/locations/$BUCKET_LOCATION/buckets/$BUCKET"
	if ! look gcloud logging sinks describe "$BUCKET" --project="$O_project" --format='value(destination)'; then
		run gcloud logging sinks create "$BUCKET" "$to" --project="$O_project" --log-filter="$(printf '%s' "$DEAD_LETTERS" | filled)"
	elif [ "$ANSWER" != "$to" ]; then
		note "New entries go to: $ANSWER -> $to"
		run gcloud logging sinks update "$BUCKET" "$to" --project="$O_project"
	fi
}

# ---------------------------------------------------------------- permissions

account() { printf '%s-%s@%s.iam.gserviceaccount.com' "$O_service" "$1" "$O_project"; }

# look_granted FILTER COLUMNS: sets ANSWER to who has which role in the project.
look_granted() {
	look gcloud projects get-iam-policy "$O_project" --flatten='bindings[].members' --filter="$1" --format="value($2)" || :
}

# By the usual roles that include reading documents or log entries.
readers() {
	step readers
	look_granted 'bindings.role~"^roles/(owner|editor|viewer|datastore[.](owner|admin|user|viewer|importExportAdmin)|firebase[.].*|logging[.](admin|viewer|viewAccessor|privateLogViewer))$"' bindings.members,bindings.role
	printf '%s\n' "${ANSWER:-(not read; to list them: gcloud projects get-iam-policy $O_project)}" | sed -e 's/^/    /' -e 's/	/, /'
}

# Sets ANSWER to an account's roles, each with its condition's title, which names a database.
roles_of() { look_granted "bindings.members=\"serviceAccount:$(account "$1")\"" bindings.role,bindings.condition.title; }

# condition TITLE: in gcloud's syntax. Roles that version 0.1.0 granted have none.
condition() {
	case $1 in
	database-*) printf 'expression=resource.name=="projects/%s/databases/%s",title=%s' "$O_project" "${1#database-}" "$1" ;;
	*) printf None ;;
	esac
}

service_account() { # service_account PURPOSE WHAT-FOR ROLE [TITLE OF ITS CONDITION]
	PURPOSE=$2
	step account
	if look gcloud iam service-accounts describe "$(account "$1")" --project="$O_project" --format='value(email)'; then
		note "$ANSWER exists."
	else
		say new-account
		run gcloud iam service-accounts create "$O_service-$1" --project="$O_project" --display-name="$O_service: $2 the function"
	fi
	roles_of "$1"
	printf '%s\n' "$ANSWER" | sed 's/	$//' | grep -Fqx "$3${4:+	$4}" && note "It has its role." && return
	note "Its only role: $3${4:+ (to read and write data), only for the database ${4#database-}}."
	NEW_ROLE=yes
	run_patiently 'does not exist' gcloud projects add-iam-policy-binding "$O_project" \
		--member="serviceAccount:$(account "$1")" --role="$3" --condition="$(condition "${4-}")"
}

# take_roles PURPOSE [TITLE TO KEEP]: removes all other roles, from version 0.1.0 or for another database.
take_roles() {
	local role title
	roles_of "$1"
	while read -r role title; do
		if ! on "$role" || [ "$title" = "${2--}" ]; then continue; fi
		! on "${2-}" || { step take-role && note "$(account "$1"), $role: ${title:-every database} -> $2 only"; }
		run gcloud projects remove-iam-policy-binding "$O_project" \
			--member="serviceAccount:$(account "$1")" --role="$role" --condition="$(condition "$title")"
	done <<<"$ANSWER"
}

# ---------------------------------------------------------------- deploying

deploy_service() {
	CHECK_HOST=$HOST
	step deploy
	# gcloud refuses --no-traffic if there is no other revision to serve it.
	set --
	if on "$LATEST"; then
		CHECK_HOST="check---$HOST"
		say keeps-traffic
		set -- --no-traffic --tag=check
	fi
	# --no-invoker-iam-check: unlike allUsers, allowed under domain-restricted sharing. python313: the newest
	# that Google builds with pip, which enforces the hashes in requirements.txt. SOURCE_DATE_EPOCH: the image
	# resets file times, which would invalidate our modules' bytecode; with it, bytecode is matched by content.
	# gen1, --cpu-boost: faster start. --cpu-throttling: all work is done before the answer.
	set -- gcloud run deploy "$O_service" "${HERE[@]}" \
		--source=. --function=handle --base-image=python313 --automatic-updates \
		--set-build-env-vars=GOOGLE_PYTHON_PACKAGE_MANAGER=pip,SOURCE_DATE_EPOCH=315532800 \
		--build-service-account="projects/$O_project/serviceAccounts/$(account build)" \
		--service-account="$(account run)" --no-invoker-iam-check --ingress=all \
		--cpu=1 --memory=512Mi --cpu-boost --cpu-throttling --execution-environment=gen1 \
		--min-instances=0 --timeout=60 --labels=app="$O_service" --update-env-vars="$SETTINGS" \
		${O_concurrency:+--concurrency="$O_concurrency"} ${O_max_instances:+--max-instances="$O_max_instances"} "$@"
	if on "$NEW_ROLE"; then run_patiently 'PERMISSION_DENIED|does not exist' "$@"; else run "$@"; fi
}

# gcloud reports success even if an organisation forbids public access: only a request shows it.
check_health() {
	local status try
	step health
	dry && return
	for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
		status="$(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 "https://$CHECK_HOST/health")" || :
		[ "$status" = 200 ] && note "It answers 200." && return
		[ "$try" = 12 ] || sleep 5
	done
	printf 'HTTP %s\n' "${status:-000}" | tee "$WORK/error" >&2
	case $status in 401 | 403) printf 'requireInvokerIam\n' >"$WORK/error" ;; esac
	not_taken
}

not_taken() {
	[ "$CHECK_HOST" = "$HOST" ] || say_error "The previous version keeps serving all traffic."
	exit 1
}

# Finds a missing role or a wrong database now, not at the first deletion.
deep_check() {
	local connectors
	step deep-check
	on "$O_skip_deep_check" && note "Skipped (--skip-deep-check)." && return
	say deep-check-does
	dry && return
	connectors=${O_connectors-$(setting CONNECTORS)}
	connectors=${connectors%%,*}
	kept check "$DATABASE" "https://$CHECK_HOST/deploy-check" "${connectors:-livechat}" || not_taken
	note "It was stored, found and removed."
}

# Also ends a traffic split that was set by hand.
all_traffic_to_latest() {
	[ "$CHECK_HOST" != "$HOST" ] || return 0
	step traffic
	run gcloud run services update-traffic "$O_service" "${HERE[@]}" --to-latest --remove-tags=check
	note "To go back: gcloud run services update-traffic $O_service ${HERE[*]} --to-revisions=$SERVING"
}

# ---------------------------------------------------------------- monitoring

metrics() {
	local name
	step metrics
	for name in outcomes known-forbidden; do
		look gcloud logging metrics describe "$O_service-$name" --project="$O_project" --format='value(name)' ||
			run_with "metrics/$name.json" gcloud logging metrics create "$O_service-$name" --project="$O_project" --config-from-file=-
	done
	look_listed "$O_service" 'value(name)' gcloud monitoring dashboards list ||
		run_with dashboard.json gcloud monitoring dashboards create --project="$O_project" --config-from-file=-
}

look_email() {
	look "${MONITORING[@]}" list --project="$O_project" \
		--filter="type=\"email\" AND labels.email_address=\"$O_alert_email\"" --format='value(name)' --limit=1 && on "$ANSWER"
}

# Sets CHANNELS to where the alerts go.
channels() {
	CHANNELS=$O_alert_channel
	on "$O_alert_email" || return 0
	monitoring channels beta
	if ! look_email; then
		run "${MONITORING[@]}" create --project="$O_project" --type=email \
			--display-name="$O_alert_email" --channel-labels="email_address=$O_alert_email"
		# Only a dry run can continue without the name that Google assigns.
		! dry || ANSWER="projects/$O_project/notificationChannels/NEW"
		dry || look_email || die "Google Cloud does not list the new channel yet: run this again."
	fi
	CHANNELS=$CHANNELS${CHANNELS:+,}$ANSWER
}

policy_title() { filled <"deploy/alerts/$1.json" | sed -n 's/^  "displayName": "\(.*\)",/\1/p'; }

# policy NAME: creates it, or replaces it if its file or channels have changed; former channels stay.
policy() {
	local content name old all channel
	content=$({ cat "deploy/alerts/$1.json" && printf '%s' "$CHANNELS"; } | cksum | tr ' ' -)
	if ! look_listed "$(policy_title "$1")" "value(name,userLabels.content.yesno(no='-'),notificationChannels.list())" "${MONITORING[@]}" list; then
		run_with "alerts/$1.json" "${MONITORING[@]}" create --project="$O_project" --policy-from-file=- \
			--user-labels=content="$content" --notification-channels="$CHANNELS"
		return
	fi
	read -r name old all <<<"$ANSWER"
	[ "$old" != "$content" ] || return 0
	for channel in ${CHANNELS//,/ }; do
		case ",$all," in *",$channel,"*) ;; *) all=$all${all:+,}$channel ;; esac
	done
	note "\"$(policy_title "$1")\": current -> as in deploy/alerts/$1.json"
	run_with "alerts/$1.json" "${MONITORING[@]}" update "$name" --project="$O_project" --policy-from-file=- \
		--update-user-labels=content="$content" --set-notification-channels="$all"
}

alerts() {
	local name
	on "$O_alert_email$O_alert_channel" || return 0
	TO="$O_alert_email${O_alert_channel:+${O_alert_email:+ and }$O_alert_channel}"
	step alerts
	channels
	monitoring policies alpha
	for name in $ALERTS; do policy "$name"; done
	! on "$O_uptime_check" || policy health
	for name in not-recorded install-refused; do remove "$O_service-$name" gcloud logging metrics; done # of version 0.1.0
}

uptime() {
	on "$O_uptime_check" || return 0
	step uptime
	look_listed "$O_service health" 'value(name)' gcloud monitoring uptime list-configs ||
		run gcloud monitoring uptime create "$O_service health" --project="$O_project" --resource-type=uptime-url \
			--resource-labels="host=$HOST,project_id=$O_project" --protocol=https --path=/health \
			--validate-ssl=true --status-classes=2xx --period=5 --timeout=10
}

# ---------------------------------------------------------------- actions

deploy() {
	[ "$LOOKING" = no ] || check_billing
	service_settings
	enable_apis
	database
	indexes
	backups
	dead_letters
	readers
	service_account run running roles/datastore.user "database-$DATABASE"
	service_account build building roles/run.builder
	deploy_service
	check_health
	deep_check
	all_traffic_to_latest
	take_roles run "database-$DATABASE"
	metrics
	uptime
	alerts
	if dry; then step dry-run-end; else filled <deploy/next.txt; fi
}

status() {
	local kept
	[ "$SERVICE_EXISTS" = yes ] || die "There is no service $O_service in $O_region of $O_project."
	step status
	kept=$(version_at "$HOST")
	note "Version that answers: ${kept:-none, or older than 0.2}" "Traffic: $SERVING" "Latest revision that started: $LATEST"
	show_settings
	step database
	look gcloud firestore databases describe "${IN[@]}" --format='value(locationId)' || die "It does not exist, so every event is refused."
	LOCATION=$ANSWER
	note "Location: $LOCATION" "Active portals: $(active_portals "$DATABASE")"
	step letters
	bucket
	on "$ANSWER" || die "There is no log for them yet (version 0.1.0 had none): run ./deploy.sh once."
	kept=$ANSWER
	look gcloud logging read "$(printf '%s' "$DEAD_LETTERS" | filled)" "${AT[@]}" --bucket="$BUCKET" --view=_AllLogs \
		--freshness="${kept}d" --limit=1000 --format='value(insertId)' || :
	note "Lines in the last $kept days: $(printf '%s' "$ANSWER" | grep -c . || :) (1000 means 1000 or more)." \
		"Some may have been stored since; storing them again is harmless: docs/operate.md, Replay."
}

# remove_listed TITLE LIST GROUP OF COMMANDS: removes what has that title, if it exists.
remove_listed() {
	! look_listed "$1" 'value(name)' "${@:3}" "$2" || run "${@:3}" delete "$ANSWER" --project="$O_project" --quiet
}

# remove NAME GROUP OF COMMANDS: removes what has that name, if it exists.
remove() {
	! look "${@:2}" describe "$1" --project="$O_project" || run "${@:2}" delete "$1" --project="$O_project" --quiet
}

destroy() {
	local name
	step destroy
	[ "$SERVICE_EXISTS" = yes ] || ! look gcloud run services list --project="$O_project" --filter="metadata.name=$O_service" --format='value(status.url)' || ! on "$ANSWER" || die "It is not in $O_region, but runs at $ANSWER, with the accounts that this would remove: use its --region."
	confirm "$O_service"
	if [ "$SERVICE_EXISTS" = yes ]; then run gcloud run services delete "$O_service" "${HERE[@]}" --quiet; else note "It does not exist."; fi
	step destroy-watching
	monitoring policies alpha
	for name in $ALERTS health; do remove_listed "$(policy_title "$name")" list "${MONITORING[@]}"; done
	remove_listed "$O_service health" list-configs gcloud monitoring uptime
	remove_listed "$O_service" list gcloud monitoring dashboards
	for name in outcomes known-forbidden not-recorded install-refused; do remove "$O_service-$name" gcloud logging metrics; done
	remove "$O_service-dead-letters" gcloud logging sinks
	step destroy-accounts
	for name in run build; do
		take_roles "$name"
		remove "$(account "$name")" gcloud iam service-accounts
	done
	step destroyed
}

main() {
	cd "$(dirname "$0")"
	read_options "$@"
	check_options
	export CLOUDSDK_CORE_DISABLE_PROMPTS=1 CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API=false
	! dry || step dry-run
	check_gcloud
	read_service
	"${O_destroy:-${O_status:-deploy}}"
	STEP=""
}

main "$@"
