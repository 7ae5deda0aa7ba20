#!/usr/bin/env bash
# Deploys or updates the forwarder and its trigger. Written for macOS's bash 3.2.
set -euo pipefail

usage() {
	cat <<'HELP'
Forwards each new record of a deletion to a URL, signed according to Standard Webhooks.

  ./deploy.sh --project=ID --url=https://example.com/hook [--dry-run]

  --project=ID       Google Cloud project of the records
  --url=URL          where to send them
  --region=REGION    where it runs (default europe-west1)
  --database=NAME    Firestore database of the records (default "(default)")
  --service=NAME     its name, at most 24 characters (default on-deletion)
  --dry-run          only print the commands
HELP
}

project="" url="" region=europe-west1 database="(default)" service=on-deletion dry=""
for option in "$@"; do
	case $option in
	--project=?*) project=${option#*=} ;;
	--url=https://?*) url=${option#*=} ;;
	--region=?*) region=${option#*=} ;;
	--database=?*) database=${option#*=} ;;
	--service=?*) service=${option#*=} ;;
	--dry-run) dry=yes ;;
	--help) usage && exit ;;
	*) printf '"%s" is not valid. ./deploy.sh --help lists the options.\n' "$option" >&2 && exit 2 ;;
	esac
done
if [ -z "$project" ] || [ -z "$url" ]; then
	usage >&2
	exit 2
fi

export CLOUDSDK_CORE_DISABLE_PROMPTS=1
cd "$(dirname "$0")"
account="$service@$project.iam.gserviceaccount.com"
builder="$service-build@$project.iam.gserviceaccount.com"

run() {
	printf '  $'
	printf ' %q' "$@"
	printf '\n'
	[ -n "$dry" ] || "$@"
}

# exists COMMAND: a dry run does not look, and shows every command that may be needed.
exists() { [ -z "$dry" ] && "$@" >/dev/null 2>&1; }

# New accounts, and Eventarc's own, can take minutes to be known everywhere.
run_patiently() {
	local try
	for try in 1 2 3 4 5 6 7 8 9 10; do
		if run "$@"; then return; fi
		[ "$try" != 10 ] || exit 1
		printf '  A new account or role can take minutes to take effect: retrying in 30 seconds\n'
		sleep 30
	done
}

# An existing trigger is not changed below, and one in another location would fire as well.
if exists gcloud iam service-accounts describe "$account" --project="$project"; then
	triggers=$(gcloud eventarc triggers list --project="$project" --location=- --flatten='eventFilters[]' \
		--filter="name~/triggers/$service\$ AND eventFilters.attribute=database" \
		--format='value(name.segment(3),eventFilters.value,destination.cloudRun.region)')
	while read -r location its_database its_region; do
		if [ -n "$location" ] && [ "$its_database $its_region" != "$database $region" ]; then
			printf 'Nothing was changed: the trigger %s sends new records of the database %s to the function in %s.\n' \
				"$service" "$its_database" "$its_region"
			printf 'To keep it, use --database=%q --region=%s; for a second function, another --service; to replace it, delete it first:\n' \
				"$its_database" "$its_region"
			printf '  gcloud eventarc triggers delete %s --location=%s --project=%s\n' "$service" "$location" "$project"
			exit 1
		fi >&2
	done <<<"$triggers"
fi

printf 'Google Cloud services\n'
run gcloud services enable run.googleapis.com cloudbuild.googleapis.com artifactregistry.googleapis.com \
	eventarc.googleapis.com secretmanager.googleapis.com --project="$project"

printf 'Its accounts: one runs it and receives the events, one builds it\n'
for name in "$service" "$service-build"; do
	exists gcloud iam service-accounts describe "$name@$project.iam.gserviceaccount.com" --project="$project" ||
		run gcloud iam service-accounts create "$name" --project="$project"
done
run_patiently gcloud projects add-iam-policy-binding "$project" --member="serviceAccount:$account" \
	--role=roles/eventarc.eventReceiver --condition=None
run_patiently gcloud projects add-iam-policy-binding "$project" --member="serviceAccount:$builder" \
	--role=roles/run.builder --condition=None

printf 'The signing secret: created once, readable only by its account\n'
if ! exists gcloud secrets describe "$service-secret" --project="$project"; then
	run gcloud secrets create "$service-secret" --project="$project" --replication-policy=user-managed \
		--locations="$region" --data-file=- < <(printf 'whsec_%s' "$(head -c 24 /dev/urandom | base64)")
fi
run gcloud secrets add-iam-policy-binding "$service-secret" --project="$project" \
	--member="serviceAccount:$account" --role=roles/secretmanager.secretAccessor

printf 'The function (a few minutes)\n'
run_patiently gcloud run deploy "$service" --project="$project" --region="$region" --source=. \
	--function=on_deletion --base-image=python313 --automatic-updates --no-allow-unauthenticated \
	--set-build-env-vars=GOOGLE_PYTHON_PACKAGE_MANAGER=pip --service-account="$account" \
	--build-service-account="projects/$project/serviceAccounts/$builder" --max-instances=3 \
	--set-env-vars="^|^WEBHOOK_URL=$url" --set-secrets=WEBHOOK_SECRET="$service-secret:latest"
run gcloud run services add-iam-policy-binding "$service" --project="$project" --region="$region" \
	--member="serviceAccount:$account" --role=roles/run.invoker

printf 'The trigger, in the location of the database: each new record calls the function\n'
location=LOCATION_OF_THE_DATABASE
[ -n "$dry" ] || location=$(gcloud firestore databases describe --project="$project" --database="$database" --format='value(locationId)')
exists gcloud eventarc triggers describe "$service" --project="$project" --location="$location" ||
	run_patiently gcloud eventarc triggers create "$service" --project="$project" --location="$location" \
		--destination-run-service="$service" --destination-run-region="$region" \
		--event-filters=type=google.cloud.firestore.document.v1.created --event-filters="database=$database" \
		--event-filters-path-pattern='document=portals/{portal}/deletions/{id}' \
		--event-data-content-type=application/protobuf --service-account="$account"

printf '\nThe receiver verifies signatures with this secret:\n  gcloud secrets versions access latest --secret=%s-secret --project=%s\n' "$service" "$project"
